import type { TrialResult } from '../results/schema.js';
import { stageSummaries } from '../statistics/stages.js';
import type { Summary } from '../statistics/summary.js';
import { columnsFor, type Cell } from './columns.js';
import { panelsOf, type Panel } from './contents.js';
import { outcomesOf, protocolOf, scopeOf, sourcesOf, versionsOf, type Fact } from './facts.js';
import { lastStage, stageTable } from './stage-table.js';
import { printable } from './text.js';

/** The report as Markdown: the tables and what one must know to read them. */
export function renderMarkdown(results: readonly TrialResult[], summary: Summary): string {
  const panels = panelsOf(results, summary);
  const done = results.filter((result) => result.status === 'done');
  const sources = sourcesOf(done).map(({ task, source, licence, rows }) => ({
    term: task,
    value: `${source}; ${licence}; ${rows}`,
  }));
  const failed = summary.failed.map(({ arm, task, budget, seed, message }) => ({
    term: `${arm} on ${task}, ${budget}, seed ${seed}`,
    value: message,
  }));
  return [
    '# Which method at this budget?',
    factList(scopeOf(results)),
    ...panels.flatMap((panel) => [
      `## ${escaped(panel.title)}`,
      ...outcomesOf(panel).map(escaped),
      table(panel, summary.reference),
      ...stageTables(panel),
    ]),
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

function table(panel: Panel, reference: string): string {
  const columns = columnsFor(panel, reference);
  const rows = panel.entries.map(({ row }) => columns.map((column) => column.cell(row)).map(cellText));
  return rowsOf(
    columns.map(({ title }) => escaped(title)),
    rows,
  );
}

/** What every arm in stages still knows after each. */
function stageTables(panel: Panel): string[] {
  return panel.entries.flatMap(({ row, trials }) => {
    const stages = stageSummaries(trials);
    if (stages.length === 0) return [];
    const { titles, rows } = stageTable(stages, panel.metric);
    const table = rowsOf(
      titles.map(escaped),
      rows.map((cells) => cells.map(cellText)),
    );
    return [`### Memorization and generalization: ${escaped(row.label)}`, escaped(lastStage(stages)), table];
  });
}

function rowsOf(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function cellText({ main, detail }: Cell): string {
  return escaped(detail === undefined ? main : `${main} (${detail})`);
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
