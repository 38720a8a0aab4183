import { differenceCell, type Cell } from './contents.js';
import type { Fact } from './facts.js';
import {
  formatCount,
  formatDuration,
  formatInterval,
  formatMebibytes,
  formatMetric,
  formatMilliseconds,
  formatP,
  formatShare,
} from './format.js';
import { factList, html, name, type Markup } from './html.js';
import type { Change, ChangedSetting, RunComparison, RunDifference, UnpairedTrials } from './statistics/two-runs.js';

/** A column of the table that compares two runs, the same in HTML, in Markdown and in the terminal. */
export interface RunColumn {
  /** The heading. */
  readonly title: string;
  /** Returns the cell of a row. */
  cell(row: RunDifference): Cell;
}

/** The columns of the comparison. */
export const RUN_COLUMNS: readonly RunColumn[] = [
  { title: 'task', cell: ({ task }) => ({ main: task }) },
  { title: 'arm', cell: ({ label, budget }) => ({ main: label, detail: budget }) },
  { title: 'metric, here', cell: ({ score, metric }) => ({ main: formatMetric(score.here), detail: metric }) },
  { title: 'there', cell: ({ score }) => ({ main: formatMetric(score.there) }) },
  { title: 'difference', cell: ({ score }) => differenceCell(score) },
  { title: 'stored', cell: ({ stored }) => changeCell(stored, formatCount) },
  { title: 'time per trial', cell: ({ totalSeconds }) => changeCell(totalSeconds, formatDuration) },
  { title: 'step', cell: ({ stepMedianMs }) => changeCell(stepMedianMs, formatMilliseconds) },
  { title: 'peak memory', cell: ({ peakRssBytes }) => changeCell(peakRssBytes, formatMebibytes) },
  { title: 'seeds', cell: ({ seeds }) => ({ main: String(seeds.length) }) },
];

/** The differences between two runs besides their numbers. */
export function changedFacts(changed: readonly ChangedSetting[]): Fact[] {
  return changed.map(({ what, here, there, labels }) => ({
    term: what,
    value: `${here ?? 'none'} here, ${there ?? 'none'} there (${labels.join(', ')})`,
  }));
}

/** Unpaired trials, in words. */
export function unpairedNames(unpaired: readonly UnpairedTrials[]): string[] {
  return unpaired.map(
    ({ in: side, label, task, budget, seeds }) =>
      `only ${side}: ${label} on ${task}, ${budget}, ${seeds.length === 1 ? 'seed' : 'seeds'} ${seeds.join(', ')}`,
  );
}

/** The value here, with its difference from the value there and the interval of that difference. */
function changeCell(change: Change, format: (value: number) => string): Cell {
  const { here, there, mean, interval, p } = change;
  if (mean === 0 && (interval === null || (interval.low === 0 && interval.high === 0)))
    return { main: format(here), detail: 'the\u00a0same' };
  const signed = (value: number): string => `${value < 0 ? '−' : '+'}${format(Math.abs(value))}`;
  const share = there > 0 ? `${mean < 0 ? '−' : '+'}${formatShare(Math.abs(mean) / there)}` : signed(mean);
  const spread = interval ? ` ${formatInterval(interval, signed)}` : '';
  return { main: format(here), detail: `${share}${spread}, ${formatP(p)}`, brief: share };
}

/** The section that compares this run with another run of the same study. */
export function twoRunsSection({ against, rows, unpaired, changed }: RunComparison): Markup {
  return html`<section>
    <h2>Compared with ${name(against)}</h2>
    <p class="note">
      Trials of the same arm, task, budget and seed, here minus there; intervals are of the mean difference, p is the
      exact sign-flip p, adjusted by Holm over the tasks of an arm and budget. Times and memory are comparable only
      where both runs had the same machine to themselves.
    </p>
    <div class="card scroll">
      <table class="runs">
        <thead>
          <tr>
            ${RUN_COLUMNS.map(({ title }) => html`<th scope="col">${title}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                ${RUN_COLUMNS.map((column) => {
                  const { main, detail } = column.cell(row);
                  return html`<td>
                    ${name(main)}${detail === undefined ? null : html`<small>${name(detail)}</small>`}
                  </td>`;
                })}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
    ${differs(changedFacts(changed))} ${missing(unpairedNames(unpaired))}
  </section>`;
}

function differs(facts: ReturnType<typeof changedFacts>): Markup {
  return html`<h3>What differs besides the numbers</h3>
    <div class="card">
      ${facts.length === 0 ? html`<p class="note">Nothing: versions, engine, protocol and options are the same.</p>` : factList(facts)}
    </div>`;
}

function missing(names: readonly string[]): Markup | null {
  if (names.length === 0) return null;
  return html`<h3>Trials without a pair</h3>
    <div class="card">
      <ul class="notes">
        ${names.map((each) => html`<li>${name(each)}</li>`)}
      </ul>
    </div>`;
}
