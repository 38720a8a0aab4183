import { createHash } from 'node:crypto';
import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import { memoryStorage } from '@peftjs/core';
import {
  failedTrial,
  STANDARD_ARMS,
  syntheticResults,
  withNames,
  withStages,
} from '../../../cli/test/synthetic-results.js';
import { primaryMetric, type DoneTrial, type TrialResult } from '@peftjs/cli/results';
import { seedCurve } from './charts/curves.js';
import { NARROW, WIDE, type Chart, type Size } from './charts/draw.js';
import { scoreChart } from './charts/scores.js';
import { panelsOf, seriesByLabel, type Panel } from './contents.js';
import { renderCsv, renderSummaryCsv, writeReport, renderMarkdown, renderTable } from './files.js';
import { formatMetric } from '@peftjs/cli/format';
import { renderReport } from './page.js';
import { summarise } from './statistics/summary.js';
import { compareRuns } from './statistics/two-runs.js';

const HOSTILE = `</title></svg><script>alert(1)</script>"'><img src=x onerror=alert(2)>\u202e|=1+1`;
const results = syntheticResults({ seeds: 2 });
const summary = summarise(results, { reference: 'lora' });
/** The same results of two models. */
const both = [...results, ...withNames(results, { model: 'other' }).map((trial) => ({ ...trial, id: `o${trial.id}` }))];
const usual = renderReport(results, summary);

function reportOf(trials: readonly TrialResult[], reference = 'lora'): Promise<string> {
  return trials === results ? usual : renderReport(trials, summarise(trials, { reference }));
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}

/** The figures of a page with a given title. */
function figures(page: string, title: string): string[] {
  const all = [...page.matchAll(/<figure[\s\S]*?<\/figure>/g)].map(([figure]) => figure);
  return all.filter((figure) => figure.includes(`<strong>${title}`));
}

describe('renderReport', () => {
  it('shows every chart of every task', async () => {
    const page = await reportOf(results);
    for (const title of [
      'Quality against size',
      'Training loss',
      'On the selection split',
      'Parameters over time',
      'Rank per module',
    ]) {
      expect(figures(page, title), title).toHaveLength(2);
    }
    expect(page).toMatch(/[MG]iB at most/);
  });

  it('gives each method one colour in all charts, and the baseline the neutral one', async () => {
    const page = await reportOf(results);
    const legends = [
      ...page.matchAll(
        /<path d="[^"]*" transform="scale\(4\)" fill="var\((--series-\d)\)"\/><\/svg><bdi>(\w+)<\/bdi>/g,
      ),
    ];
    const colors = new Map(legends.map(([, color, label]) => [label, color]));
    expect(new Set(legends.map(([, color, label]) => `${String(label)} ${String(color)}`)).size).toBe(4);
    expect(colors.get('head')).toBe('--series-0');
    expect(new Set(colors.values()).size).toBe(4);
  });

  it('shows means, spread, differences, budgets, rates, sources and licences', async () => {
    const page = await reportOf(results);
    for (const row of summary.rows) {
      expect(page).toContain(`<bdi>${formatMetric(row.score.mean)}</bdi>`);
      expect(page).toContain(`± ${formatMetric(Number(row.score.sd))}`);
    }
    for (const text of [
      'met',
      'p\u00a0=\u00a00.5',
      'cannot be reached',
      '0.01 (head)',
      'WordNet licence',
      'CC BY 4.0',
      'frozen baseline',
      '57,344',
    ]) {
      expect(page).toContain(text);
    }
  });

  it('shows memorization and generalization of an arm in stages, as a chart and as a table', async () => {
    const staged = syntheticResults({ methods: ['sora'], seeds: 3 }).map((trial) => withStages(trial));
    const page = await reportOf([...results, ...staged], 'sora');
    const shown = figures(page, 'Memorization and generalization');
    expect(shown).toHaveLength(2);
    for (const figure of shown) {
      for (const part of ['memorization', 'generalization', 'stored parameters', '% of the first stage']) {
        expect(figure).toContain(part);
      }
      expect(count(figure, '<tr>')).toBe(1 + 7);
      expect(figure).toContain('a line for each seed');
    }
    const generalization = staged.map(({ stages }) => stages?.at(-1)?.generalization ?? NaN).slice(0, 3);
    const mean = generalization.reduce((sum, value) => sum + value, 0) / 3;
    expect(shown[0]).toMatch(new RegExp(`<bdi>4,424</bdi>[^]*<bdi>${mean.toFixed(1)}</bdi> <small>`));
    const markdown = renderMarkdown(staged, summarise(staged, { reference: 'sora' }));
    expect(count(markdown, '| stage | level | sparsity | stored |')).toBe(2);
    expect(await reportOf(results)).not.toContain('Memorization');
  });

  it('loads nothing, runs nothing, and forbids both in its policy', async () => {
    const page = await reportOf(results);
    expect(
      /<script|<link|<img|<iframe|<object| on\w+=|javascript:|url\(|@import| style=| id=|https?:/i.exec(page)?.[0],
    ).toBeUndefined();
    const style = /<style>([\s\S]*?)<\/style>/.exec(page)?.[1] ?? '';
    expect(page).toContain(`style-src &#39;sha256-${createHash('sha256').update(style).digest('base64')}&#39;`);
    expect(page).toContain('default-src &#39;none&#39;');
  });

  it('draws with the colours of the page only', async () => {
    const page = await reportOf(results);
    const svg = [...page.matchAll(/<svg[\s\S]*?<\/svg>/g)].join('');
    const colors = new Set([...svg.matchAll(/(?:fill|stroke)="([^"]+)"/g)].map(([, color]) => String(color)));
    expect([...colors].filter((color) => !/^(var\(--[\w-]+\)|none|transparent)$/.test(color))).toEqual([]);
  });

  it('escapes everything in names', async () => {
    const named = withNames(syntheticResults({ tasks: ['uci-sentiment'] }), { task: HOSTILE }).map((result) => ({
      ...result,
      method: result.method === 'sora' ? HOSTILE : result.method,
      ...(result.status === 'done'
        ? { ranks: Object.fromEntries(Object.entries(result.ranks).map(([path, rank]) => [`${path}${HOSTILE}`, rank])) }
        : {}),
      protocol: {
        ...result.protocol,
        [HOSTILE]: HOSTILE,
        data: { ...result.protocol.data, source: HOSTILE, licence: HOSTILE },
      },
    }));
    const [first, ...rest] = named;
    const page = await reportOf([failedTrial(first as DoneTrial, HOSTILE), ...rest]);
    expect(page).not.toMatch(/<script|<img/i);
    expect(count(page, '</title>')).toBe(1);
    expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    // Every tag of the page is one that the report itself makes.
    const tags = new Set([...page.matchAll(/<\/?([a-zA-Z!][\w-]*)/g)].map(([, tag]) => String(tag)));
    const known =
      '!doctype html head meta title style body header h1 h2 h3 ul li b bdi div p strong main section table thead tr th tbody td small figure figcaption span svg g path text line dl dt dd details summary footer';
    expect([...tags].filter((tag) => !known.split(' ').includes(tag))).toEqual([]);
  });

  it('has a panel per budget, and layers instead of modules if there are many', async () => {
    const many = syntheticResults({ tasks: ['uci-sentiment'], ranks: [2, 4], layers: 12 });
    const page = await reportOf(many);
    expect(figures(page, 'Training loss')).toHaveLength(2);
    expect(figures(page, 'Rank per module')).toHaveLength(2);
    expect(page).toContain('>layer 11</text>');
  });

  it('works with one seed, without a baseline, without a budget, and without a result', async () => {
    const sparse = syntheticResults({ seeds: 1 });
    expect(await reportOf(sparse)).toContain('one seed');
    expect(await reportOf(sparse.filter(({ method }) => method === 'sora'))).not.toContain('Dotted:');
    expect(figures(await reportOf(sparse.filter(({ method }) => method === 'head')), 'Training loss')).toHaveLength(2);
    const none = await reportOf(sparse.map((trial) => failedTrial(trial, 'the loss is not finite')));
    expect(none).toContain('No finished trial');
    expect(none).toContain('the loss is not finite');
  });

  it('says whether less is better, and joins the lowest means', async () => {
    const turned = syntheticResults({ tasks: ['uci-sentiment'], ranks: [2, 4] }).map((trial) => ({
      ...trial,
      selection: { ...trial.selection, lowerIsBetter: true },
    }));
    const page = await reportOf(turned);
    expect(page).toContain('accuracy (less is better)');
    expect(page).toContain('accuracy, selection split, less is better');
    expect(page).toContain('Dotted: the frozen model with a trained head. Less is better.');
    const own = summarise(turned, { reference: 'lora' });
    const [best] = own.rows.filter(({ rank, budget }) => rank === 1 && budget.spec === 'r=4');
    const [panel] = panelsOf(turned, own);
    const joined = stepsOf(panel as Panel).map(({ value }) => value);
    expect(joined.at(-1)).toBe(
      Math.min(...own.rows.filter(({ baseline }) => !baseline).map(({ score }) => score.mean)),
    );
    expect(page).toContain(
      `${String(best?.label)} has the lowest mean accuracy after head, ${formatMetric(best?.score.mean ?? NaN)}.`,
    );
    expect(page).not.toContain('highest');
    for (const columns of [40, 200]) expect(renderTable(own, { columns })).toContain('accuracy (less');
    const untrained = turned.map((trial) =>
      trial.method === 'head' ? { ...trial, parameters: { ...trial.parameters, trainableAtStart: 0 } } : trial,
    );
    expect(await reportOf(untrained)).toContain('Dotted: the frozen model. Less');
  });

  it('shows the learning rates that were tried, and the chosen one', async () => {
    const tuning = {
      tried: [
        { learningRate: 5e-4, score: null, error: 'NaN' },
        { learningRate: 2e-3, score: 0.8765 },
      ],
      chosen: 2e-3,
    };
    const tuned = results.map((trial) => (trial.arm === 'sora' ? { ...trial, tuning } : trial));
    const page = await reportOf(tuned);
    expect(page).toContain('Learning rates tried');
    expect(page).toMatch(
      /<td><bdi>0\.002<\/bdi><\/td>\s*<td class="tried"><bdi>failed<\/bdi><\/td>\s*<td class="chosen"><bdi>0\.876</,
    );
    expect(page).toContain('uci-sentiment, wordnet-supersense');
    const markdown = renderMarkdown(tuned, summarise(tuned, { reference: 'lora' }));
    expect(markdown).toContain('| sora (uci-sentiment, wordnet-supersense) | 0.002 | failed | 0.876 |');
    const untuned = (tried: typeof tuning.tried): TrialResult[] => {
      const trial = tuned.find(({ arm }) => arm === 'sora') as DoneTrial;
      return [...results, failedTrial({ ...trial, tuning: { tried, chosen: null } }, 'NaN')];
    };
    expect(await reportOf(untuned(tuning.tried.slice(0, 1)))).toContain('none: every one failed');
    expect(await reportOf(untuned(tuning.tried))).toContain('none: a process died');
    expect(await reportOf(results)).not.toContain('Learning rates tried');
  });

  it('says which parameters a budget counts, and the size of the optimizer state', async () => {
    const page = await reportOf(results);
    expect(page).toContain('r=4: 57,344 stored parameters');
    expect(page).toContain('480\u00a0KiB of moments'); // two float32 of 57,344 + 4,104 trained parameters
    expect(page).toContain('budget 57,344');
    const matched = results.map((trial) => ({ ...trial, budget: { ...trial.budget, matchedOn: 'trained' as const } }));
    const other = await reportOf(matched);
    expect(other).toContain('r=4: 57,344 trained parameters');
    expect(other).not.toContain('r=4: 57,344 stored parameters');
    expect(other).not.toContain('budget 57,344');
  });

  it('marks a missed budget', async () => {
    const missed = results.map((trial) =>
      trial.method === 'sora' ? { ...trial, budget: { ...trial.budget, met: false } } : trial,
    );
    const page = await reportOf(missed);
    expect(page).toContain('<td class="missed"');
    expect(page).toContain('not ranked: budget missed');
  });

  it('is the same for the same results', async () => {
    expect((await renderReport(results, summary)) === (await usual)).toBe(true);
  });
});

/** The score chart of a task. */
function chartOf(panel: Panel, size: Size): Chart {
  const rows = panel.entries.map(({ row }) => row);
  const about = { subject: panel.title, metric: panel, seriesOf: seriesByLabel(rows), verdicts: [] };
  return scoreChart(rows, about, size);
}

/** The points of the score chart's step line. */
function stepsOf(panel: Panel): readonly { readonly value: number }[] {
  const { layer } = chartOf(panel, NARROW).spec as unknown as {
    layer: readonly { mark: { interpolate?: string }; data: { values: readonly { value: number }[] } }[];
  };
  return layer.find(({ mark }) => mark.interpolate === 'step-after')?.data.values ?? [];
}

describe('seedCurve', () => {
  const [first, second] = results.filter(({ method, task }) => method === 'lora' && task === 'uci-sentiment');
  const history = (losses: number[]): DoneTrial => ({
    ...(first as DoneTrial),
    history: losses.map((loss, index) => ({ step: index + 1, epoch: 1, loss, learningRate: 0, stored: 0 })),
  });

  it('is the mean over seeds with their range', () => {
    expect(seedCurve([history([1, 3]), history([3, 5])], ({ loss }) => loss)).toEqual([
      { step: 1, mean: 2, low: 1, high: 3 },
      { step: 2, mean: 4, low: 3, high: 5 },
    ]);
  });

  it('has at most 48 points and covers the whole run', () => {
    const curve = seedCurve([history(Array.from({ length: 400 }, (_, index) => index))], ({ loss }) => loss);
    expect(curve).toHaveLength(48);
    expect(curve.at(-1)?.step).toBe(400);
  });

  it('leaves out steps without a measurement', () => {
    const evaluated = seedCurve([first, second] as DoneTrial[], ({ metrics }) => metrics?.accuracy);
    expect(evaluated.map(({ step }) => step)).toEqual([25, 50, 75, 100, 125, 150, 175, 200, 225]);
  });
});

describe('panelsOf', () => {
  it('names the model only if there are several', () => {
    expect(panelsOf(results, summary).map(({ title }) => title)).toEqual(['uci-sentiment', 'wordnet-supersense']);
    expect(panelsOf(both, summarise(both, { reference: 'lora' })).map(({ title }) => title)).toContain(
      'uci-sentiment · other',
    );
  });
});

it('the charts over all tasks name their model', async () => {
  const page = await reportOf(both);
  for (const model of [summary.rows[0]?.model, 'other']) {
    expect(page).toContain(`aria-label="Mean over the tasks with ${model} against`);
    expect(page).toContain(`aria-label="Scores at r=4 on the mean over tasks with ${model}: `);
  }
});

describe('a study of many arms and budgets', () => {
  const study = syntheticResults({ methods: STANDARD_ARMS, ranks: [1, 2, 4, 8], seeds: 6, layers: 6 });
  const whole = summarise(study, { reference: 'lora' });

  it('has the mean over tasks and every pair of arms, with numbers in the cells', async () => {
    const page = await renderReport(study, whole);
    expect(count(page, '<table class="matrix">')).toBe(4); // over the tasks, by budget
    expect(count(page, 'differs significantly after correction.')).toBe(2 * 4); // with six seeds none is on a single task
    expect(page).toContain('<h2><bdi>Over all tasks</bdi></h2>');
    const pair = whole.comparisons.find(
      ({ task, budget, a, b }) => !task && budget === 'r=8' && a === 'bitfit' && b === 'sora',
    );
    expect(pair?.pHolm).toBeLessThan(0.05);
    expect(page).toMatch(
      new RegExp(
        `<bdi>bitfit</bdi></td> *<td><bdi>sora</bdi></td> *<td><bdi>−${formatMetric(-(pair?.mean ?? 0))}</bdi>`,
      ),
    );
    expect(page).toContain('<bdi>sora is better</bdi>');
    expect(figures(page, 'Live ranks over time: sora')).toHaveLength(2 * 4);
    expect(figures(page, 'Live ranks over time: lora')).toHaveLength(0);
    expect(page.length).toBeLessThan(4e6);
  });

  it('labels each arm once at the edge of the chart, without overlap', () => {
    const [panel] = panelsOf(study, whole);
    const { layer, height } = chartOf(panel as Panel, WIDE).spec as unknown as {
      height: number;
      layer: readonly {
        mark: { type: string; align?: string; dx?: number };
        data: { values: readonly { labelAt: number; text: string }[] };
      }[];
    };
    const names = layer
      .filter(({ mark }) => mark.type === 'text' && (mark.dx ?? 0) > 5)
      .flatMap(({ data }) => data.values);
    expect(names.map(({ text }) => text).sort()).toEqual(STANDARD_ARMS.filter((arm) => arm !== 'head').sort());
    const heights = names.map(({ labelAt }) => labelAt).sort((a, b) => a - b);
    const gaps = heights.slice(1).map((value, index) => value - (heights[index] as number));
    expect(Math.min(...gaps)).toBeGreaterThan(0);
    expect(height).toBeGreaterThan(16 * names.length);
  });

  it('lists the pairs in Markdown, and every adjusted p in CSV', () => {
    expect(renderMarkdown(study, whole)).toMatch(/\| bitfit \| sora \| −.* \| sora is better \|/);
    const [header = '', ...lines] = renderSummaryCsv(whole).trim().split('\r\n');
    const at = header.split(',').indexOf('pHolm');
    expect(lines).toHaveLength(whole.rows.length + whole.overall.length);
    expect(
      lines
        .map((line) => line.split(',')[at])
        .filter((text) => text !== '')
        .map(Number),
    ).toEqual([...whole.rows, ...whole.overall].flatMap(({ difference }) => difference?.pHolm ?? []));
  });
});

describe('two runs compared', () => {
  const [, ...fewer] = results.map((trial) => ({ ...trial, versions: { ...trial.versions, peftjs: '0.2.0' } }));
  const compared = { ...summary, against: compareRuns(results, fewer, HOSTILE) };

  it('appear on the page, in Markdown and in the terminal, with unpaired trials and differences', async () => {
    const texts = [
      await renderReport(results, compared),
      renderMarkdown(results, compared),
      renderTable(compared, { columns: 100 }),
    ];
    for (const text of texts) {
      expect(text.toLowerCase()).toContain('compared with');
      expect(text).toMatch(/only here: head on uci-sentiment, none, seed 1/);
      expect(text).toContain('0.1.0 here, 0.2.0 there');
    }
    expect(texts.slice(0, 2).join('')).not.toContain('<script');
    for (const line of (texts[2] as string).split('\n')) expect(stringWidth(line)).toBeLessThanOrEqual(100);
  });
});

describe('renderMarkdown', () => {
  it('holds the table of every task and the facts', () => {
    const text = renderMarkdown(results, summary);
    const header = text.split('\n').filter((line) => line.startsWith('| method | accuracy | against lora |'));
    expect(header).toHaveLength(2);
    expect(text).toContain('learning rate: 0.01 (head)');
    expect(text).toContain('WordNet licence');
  });

  it('lets no name add markup, a cell or a line', () => {
    const named = withNames(syntheticResults({ tasks: ['uci-sentiment'] }), { task: `a|b\n# [x](y)${HOSTILE}` });
    const text = renderMarkdown(named, summarise(named, { reference: 'lora' }));
    expect(text).not.toMatch(/^# \[/m);
    expect(text).not.toContain('<script');
    expect(text).toContain('a\\|b \\# \\[x\\]');
    const tables = text.split('\n\n').filter((block) => block.startsWith('|'));
    const widths = tables.map((table) => table.split('\n').map((line) => line.replaceAll('\\|', '').split('|').length));
    expect(widths.map((ofLines) => [...new Set(ofLines)])).toEqual([[11], [8]]);
  });
});

describe('renderCsv', () => {
  it('has a line per trial with every number unrounded', () => {
    const [header = '', ...lines] = renderCsv(results).trim().split('\r\n');
    expect(lines).toHaveLength(results.length);
    const columns = header.split(',');
    const at = (line: string, column: string): string => String(line.split(',')[columns.indexOf(column)]);
    expect(lines.map((line) => Number(at(line, 'metric.accuracy')))).toEqual(results.map(primaryMetric));
    expect(at(lines[0] as string, 'requested')).toBe('');
  });

  it('quotes fields where needed and disarms formulas', () => {
    const named = withNames(results.slice(0, 1), { task: '=HYPERLINK("x"),\n1' });
    expect(renderCsv(named)).toContain(`"'=HYPERLINK(""x""),\n1"`);
  });
});

describe('writeReport', () => {
  it('writes every file', async () => {
    const storage = memoryStorage();
    await writeReport('out', results, summary, storage);
    expect([...storage.files.keys()].sort()).toEqual([
      'out/report.html',
      'out/report.md',
      'out/results.csv',
      'out/summary.csv',
      'out/summary.json',
    ]);
    expect(JSON.parse(new TextDecoder().decode(storage.files.get('out/summary.json')))).toEqual(
      JSON.parse(JSON.stringify(summary)),
    );
  });
});
