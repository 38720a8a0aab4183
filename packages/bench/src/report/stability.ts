import type { TrialResult } from '../results/schema.js';
import { choiceMap } from './charts/choices.js';
import { grid } from './charts/draw.js';
import type { Cell } from './contents.js';
import { formatInterval, formatMetric, formatSigned } from './format.js';
import { disclosure, html, name, type Markup } from './html.js';
import type { Agreement, StabilityRow } from './statistics/stability.js';
import type { Summary } from './statistics/summary.js';

/** The title of the section, in the page and in Markdown. */
export const STABILITY_TITLE = 'What decides which ranks are kept?';

/** Explains how to read the table. */
export const STABILITY_NOTE =
  'Arms that are missing here ended with the same rank in every module. For the others: how similar the ranks by module are between two seeds of one task, and between two tasks of one seed. Pearson’s correlation comes first, then the Jaccard index: the sum of the smaller ranks over the sum of the larger. The difference is between the correlations, seeds minus tasks; if its 95 % jackknife interval over the seeds excludes 0, the last column says which agree more.';

/** A column of the table, the same in the page and in Markdown. */
interface StabilityColumn {
  /** The heading. */
  readonly title: string;
  /** Returns the cell of a row. */
  cell(row: StabilityRow): Cell;
}

/** The columns of the table; models are named if there are several. */
export function stabilityColumns(rows: readonly StabilityRow[]): StabilityColumn[] {
  const severalModels = new Set(rows.map(({ model }) => model)).size > 1;
  return [
    { title: 'arm', cell: ({ label, model }) => (severalModels ? { main: label, detail: model } : { main: label }) },
    { title: 'budget', cell: ({ budget }) => ({ main: budget.requested === null ? 'none' : budget.spec }) },
    { title: 'seeds of one task', cell: ({ betweenSeeds }) => agreementCell(betweenSeeds) },
    { title: 'tasks of one seed', cell: ({ betweenTasks }) => agreementCell(betweenTasks) },
    { title: 'difference', cell: differenceCell },
    { title: 'conclusion', cell: (row) => ({ main: sayingOf(row) }) },
  ];
}

function agreementCell({ pairs, uncorrelated, correlation, jaccard }: Agreement): Cell {
  if (pairs === 0) return { main: '–' };
  const counted = `${pairs}\u00a0${pairs === 1 ? 'pair' : 'pairs'}`;
  const left = uncorrelated === 0 ? '' : `, ${uncorrelated} without a\u00a0correlation`;
  return {
    main: formatMetric(correlation),
    detail: `Jaccard\u00a0${formatMetric(jaccard)};\u00a0${counted}${left}`,
  };
}

function differenceCell({ difference }: StabilityRow): Cell {
  if (difference === null) return { main: '–' };
  const main = formatSigned(difference.mean);
  return difference.interval ? { main, detail: formatInterval(difference.interval, formatSigned) } : { main };
}

/** The fewest seeds for an interval: leaving one out must leave pairs. */
const SEEDS_FOR_INTERVAL = 3;

/** The verdict of a row, in a sentence. */
function sayingOf({ verdict, betweenSeeds, betweenTasks, seeds }: StabilityRow): string {
  if (verdict === 'same') return 'Every trial kept the same ranks.';
  if (verdict === 'task') return 'Seeds agree more than tasks do: the choice follows the task.';
  if (verdict === 'draw') {
    return 'Tasks of one seed agree more than seeds of one task: the initial draw decides.';
  }
  if (betweenTasks.pairs === 0) return 'Open: no two tasks share a seed.';
  if (betweenSeeds.pairs === 0) return 'Open: no two seeds share a task.';
  return seeds.length < SEEDS_FOR_INTERVAL
    ? `Open: at least ${SEEDS_FOR_INTERVAL} seeds are needed.`
    : 'Open: the difference is not significant.';
}

/**
 * The section on whether the task or the seed decides which ranks are kept, with a row for each adaptive arm and
 * budget; null if there is none.
 */
export function stabilitySection(results: readonly TrialResult[], summary: Summary): Markup | null {
  const { stability: rows } = summary;
  if (rows.length === 0) return null;
  const columns = stabilityColumns(rows);
  return html`<section>
    <h2>${STABILITY_TITLE}</h2>
    <p class="note">${STABILITY_NOTE}</p>
    <div class="card scroll">
      <table class="cards">
        <thead>
          <tr>
            ${columns.map(({ title }) => html`<th scope="col">${title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                ${columns.map(({ title, cell }) => stabilityCell(title, cell(row)))}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${disclosure('Ranks of every trial', choiceMaps(results, summary), true)}
  </section>`;
}

/** Maps of the final ranks of every trial, one for each arm and budget. */
function choiceMaps(results: readonly TrialResult[], { stability, rows }: Summary): Markup {
  const done = new Map(results.flatMap((result) => (result.status === 'done' ? [[result.id, result]] : [])));
  const severalModels = new Set(stability.map(({ model }) => model)).size > 1;
  const maps = stability.map(({ model, label, budget }) => {
    const own = rows.filter((row) => row.model === model && row.label === label && row.budget.spec === budget.spec);
    const trials = own.flatMap((row) => row.trials.flatMap((id) => done.get(id) ?? []));
    const at = budget.requested === null ? label : `${label}, ${budget.spec}`;
    const title = severalModels ? `${at} · ${model}` : at;
    return html`<figure>
      <figcaption><strong>${name(title)}</strong></figcaption>
      ${choiceMap(`Ranks by module, task and seed: ${title}`, trials)}
    </figure>`;
  });
  return html`<p class="note">${CHOICE_NOTE}</p>
    ${grid(maps)}`;
}

const CHOICE_NOTE =
  'Modules down, trials across, the seeds of one task side by side: the darker, the more ranks. Columns that are alike within a task follow the task; a pattern that comes again from task to task follows the seed.';

function stabilityCell(title: string, { main, detail }: Cell): Markup {
  return html`<td data-label="${title}">
    ${name(main)}${detail === undefined ? null : html`<small>${name(detail)}</small>`}
  </td>`;
}
