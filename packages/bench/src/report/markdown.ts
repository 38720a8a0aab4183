import type { TrialResult } from '../results/schema.js';
import { contestsOf, LEVEL } from './contest.js';
import { columnsFor, panelsOf, type Cell, type Panel } from './contents.js';
import { protocolOf, scopeOf, sourcesOf, versionsOf, type Fact } from './facts.js';
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
import { isEquivalent, nothingDiffers } from './pairs.js';
import { STABILITY_NOTE, STABILITY_TITLE, stabilityColumns } from './stability.js';
import { sizedArms, sizingTable } from './sizing.js';
import { lastStageSentence, stageSummaries, stageTable } from './stages.js';
import type { Summary } from './statistics/summary.js';
import type { RunComparison } from './statistics/two-runs.js';
import { choiceOf, noiseNote, ratesOf, scoreOf, tunedRows } from './tuning.js';
import { changedFacts, RUN_COLUMNS, unpairedNames } from './two-runs.js';
import { verdictParagraphs } from './verdict.js';

/** Renders the report as Markdown: its tables, and what is needed to read them. */
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
    verdictMarkdown(summary),
    ...(summary.against ? twoRuns(summary.against) : []),
    ...overTasks(summary),
    ...stability(summary),
    ...panels.flatMap((panel) => [
      `## ${escaped(panel.title)}`,
      table(panel, summary.reference),
      ...stageTables(panel),
      ...sizingTables(panel),
      ...whoDiffers(summary, panel.model, panel.task),
    ]),
    ...tuning(results),
    '## Limitations',
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

/** The verdicts of a run as paragraphs of Markdown. */
export function verdictMarkdown(summary: Parameters<typeof verdictParagraphs>[0]): string {
  return verdictParagraphs(summary)
    .map(([first = '', ...others]) => `**${escaped(first)}** ${escaped(others.join(' '))}`.trim())
    .join('\n\n');
}

function overTasks(summary: Summary): string[] {
  const { overall } = summary;
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
    ...[...new Set(overall.map(({ model }) => model))].flatMap((model) => whoDiffers(summary, model, null)),
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

/** Tables of the pairs with p < 0.05 or equivalence, each pair once; if there are none, a sentence. */
function whoDiffers(summary: Summary, model: string, task: string | null): string[] {
  const contests = contestsOf(summary).filter((each) => each.model === model && each.task === task);
  return contests.flatMap(({ budget, pairs }) => {
    const nothing = nothingDiffers(pairs);
    if (nothing !== null) return [escaped(`${budget.requested === null ? '' : `At ${budget.spec}: `}${nothing}`)];
    const shown = pairs.filter((pair) => pair.p < LEVEL || isEquivalent(pair));
    const rows = shown.map((pair) => [
      ...[budget.spec, pair.a, pair.b, formatSigned(pair.mean), formatPlainP(pair.p), formatPlainP(pair.pHolm)],
      isEquivalent(pair) ? 'yes' : '',
    ]);
    if (rows.length === 0) return [];
    return [
      `Pairs of arms with p < 0.05 or equivalent, ${shown.length} of ${pairs.length}:`,
      markdownTable(['budget', 'arm', 'minus', 'difference', 'p', 'adjusted p', 'equivalent'], rows),
    ];
  });
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

/** The memorization and generalization of every arm in stages, after each stage. */
function stageTables(panel: Panel): string[] {
  return panel.entries.flatMap(({ row, trials }) => {
    const stages = stageSummaries(trials);
    if (stages.length === 0) return [];
    const { titles, rows } = stageTable(stages, panel.metric);
    const table = markdownTable(
      titles,
      rows.map((cells) => cells.map(cellText)),
    );
    return [`### Memorization and generalization: ${escaped(row.label)}`, escaped(lastStageSentence(stages)), table];
  });
}

/** The stages of every arm that chose its size, by seed. */
function sizingTables(panel: Panel): string[] {
  return sizedArms(panel).flatMap(({ label, trials }) => [
    `### The size that ${escaped(label)} chose`,
    ...trials.flatMap(({ seed, sizing }) => {
      const { titles, rows } = sizingTable(sizing);
      return [`Seed ${seed}: ${escaped(sizing.reason)}`, markdownTable(titles, rows)];
    }),
  ]);
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

/** Escapes outside text, so that it cannot be markup, a link, a table cell or a new line. */
function escaped(text: string): string {
  return printable(text).replace(/[\\`*_[\]<>|#~&]/g, (character) =>
    character === '<' ? '&lt;' : character === '&' ? '&amp;' : `\\${character}`,
  );
}
