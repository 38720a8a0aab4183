import type { TrialResult } from '../results/schema.js';
import { columnsFor, panelsOf, type Cell, type Panel } from './contents.js';
import { outcomesOf, protocolOf, scopeOf, sourcesOf, versionsOf, type Fact } from './facts.js';
import {
  formatAdjustedP,
  formatInterval,
  formatMetric,
  formatP,
  formatPlainP,
  formatSigned,
  formatSmall,
  printable,
} from './format.js';
import { STABILITY_NOTE, STABILITY_TITLE, stabilityColumns } from './stability.js';
import { lastStage, stageSummaries, stageTable } from './stages.js';
import type { Comparison } from './statistics/comparisons.js';
import type { Summary } from './statistics/summary.js';
import type { RunComparison } from './statistics/two-runs.js';
import { choiceOf, noiseNote, ratesOf, scoreOf, tunedRows } from './tuning.js';
import { changedFacts, RUN_COLUMNS, unpairedNames } from './two-runs.js';

/** The report as Markdown: the tables and what one must know to read them. */
export function renderMarkdown(results: readonly TrialResult[], summary: Summary): string {
  const panels = panelsOf(results, summary);
  const done = results.filter((result) => result.status === 'done');
  const sources = sourcesOf(done).map(({ task, source, licence, rows, lost }) => ({
    term: task,
    value: [source, licence, rows, ...(lost ? [lost] : [])].join('; '),
  }));
  const failed = summary.failed.map(({ arm, task, budget, seed, message }) => ({
    term: `${arm} on ${task}, ${budget}, seed ${seed}`,
    value: message,
  }));
  return [
    '# Which method at this budget?',
    factList(scopeOf(results)),
    ...(summary.against ? twoRuns(summary.against) : []),
    ...overTasks(summary),
    ...stability(summary),
    ...panels.flatMap((panel) => [
      `## ${escaped(panel.title)}`,
      ...outcomesOf(panel).map(escaped),
      table(panel, summary.reference),
      ...stageTables(panel),
      ...whoDiffers(summary.comparisons.filter(({ model, task }) => model === panel.model && task === panel.task)),
    ]),
    ...tuning(results),
    '## What to bear in mind',
    summary.notes.map((note) => `- ${escaped(note)}`).join('\n'),
    ...(failed.length > 0 ? ['## Failed trials', factList(failed)] : []),
    '## Protocol',
    factList(protocolOf(done)),
    '## Data',
    factList(sources),
    '## Versions',
    factList(versionsOf(done)),
  ]
    .join('\n\n')
    .concat('\n');
}

function overTasks({ overall, comparisons }: Summary): string[] {
  if (overall.length === 0) return [];
  const rows = overall.map(({ model, label, budget, score, difference }) => [
    ...[model, label, budget.spec, formatMetric(score.mean)],
    score.interval ? formatInterval(score.interval) : '–',
    difference
      ? `${formatSigned(difference.mean)} (${formatP(difference.p)}, ${formatAdjustedP(difference.pHolm)})`
      : '–',
  ]);
  return [
    '## Over all tasks',
    markdownTable(['model', 'arm', 'budget', 'mean over tasks', 'interval', 'against the reference'], rows),
    ...whoDiffers(comparisons.filter(({ task }) => task === null)),
  ];
}

function stability({ stability: rows }: Summary): string[] {
  if (rows.length === 0) return [];
  const columns = stabilityColumns(rows);
  const cells = rows.map((row) => columns.map(({ cell }) => cellText(cell(row))));
  return [
    `## ${STABILITY_TITLE}`,
    escaped(STABILITY_NOTE),
    markdownTable(
      columns.map(({ title }) => title),
      cells,
    ),
  ];
}

/** The pairs that differ by chance in less than one case of twenty, once for both orders. */
function whoDiffers(comparisons: readonly Comparison[]): string[] {
  const found = comparisons.filter(({ p }) => p < 0.05);
  if (found.length === 0) return comparisons.length === 0 ? [] : ['No pair of arms differs with p < 0.05.'];
  const rows = found.map(({ budget, a, b, mean, p, pHolm }) => [
    ...[budget, a, b, formatSigned(mean), formatPlainP(p), formatPlainP(pHolm)],
  ]);
  return [
    `Pairs of arms with p < 0.05, ${found.length} of ${comparisons.length}:`,
    markdownTable(['budget', 'arm', 'minus', 'difference', 'p', 'adjusted p'], rows),
  ];
}

function twoRuns({ against, rows, changed, unpaired }: RunComparison): string[] {
  const cells = rows.map((row) =>
    RUN_COLUMNS.map((column) => column.cell(row)).map(({ main, detail }) => (detail ? `${main} (${detail})` : main)),
  );
  return [
    `## Compared with ${escaped(against)}`,
    markdownTable(
      RUN_COLUMNS.map(({ title }) => title),
      cells,
    ),
    ...(changed.length > 0 ? ['Besides the numbers, these differ:', factList(changedFacts(changed))] : []),
    ...(unpaired.length > 0
      ? [
          'Trials without a pair:',
          unpairedNames(unpaired)
            .map((each) => `- ${escaped(each)}`)
            .join('\n'),
        ]
      : []),
  ];
}

function tuning(results: readonly TrialResult[]): string[] {
  const rows = tunedRows(results);
  if (rows.length === 0) return [];
  const rates = ratesOf(rows);
  const cells = rows.map((row) => [
    row.label,
    row.tasks.join(', '),
    ...rates.map((rate) => scoreOf(row, rate)),
    choiceOf(row),
  ]);
  return [
    '## Learning rates tried',
    markdownTable(['arm', 'tasks', ...rates.map(formatSmall), 'chosen'], cells),
    ...noiseNote(rows),
  ];
}

function table(panel: Panel, reference: string): string {
  const columns = columnsFor(panel, reference);
  const rows = panel.entries.map(({ row }) => columns.map((column) => column.cell(row)).map(cellText));
  return markdownTable(
    columns.map(({ title }) => title),
    rows,
  );
}

/** What every arm in stages still knows after each. */
function stageTables(panel: Panel): string[] {
  return panel.entries.flatMap(({ row, trials }) => {
    const stages = stageSummaries(trials);
    if (stages.length === 0) return [];
    const { titles, rows } = stageTable(stages, panel.metric);
    const table = markdownTable(
      titles,
      rows.map((cells) => cells.map(cellText)),
    );
    return [`### Memorization and generalization: ${escaped(row.label)}`, escaped(lastStage(stages)), table];
  });
}

function markdownTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => '---'), ...rows]
    .map((cells, index) => `| ${cells.map((cell) => (index === 1 ? cell : escaped(cell))).join(' | ')} |`)
    .join('\n');
}

function cellText({ main, detail }: Cell): string {
  return detail === undefined ? main : `${main} (${detail})`;
}

function factList(facts: readonly Fact[]): string {
  return facts.map(({ term, value }) => `- ${escaped(term)}: ${escaped(value)}`).join('\n');
}

/** Outside text as text: nothing in it is markup, a link, a cell or a line. */
function escaped(text: string): string {
  return printable(text).replace(/[\\`*_[\]<>|#~&]/g, (character) =>
    character === '<' ? '&lt;' : character === '&' ? '&amp;' : `\\${character}`,
  );
}
