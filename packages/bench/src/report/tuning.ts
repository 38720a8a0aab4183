import type { TrialResult } from '../results/schema.js';
import { formatMetric, formatSmall } from './format.js';
import { html, name, type Markup } from './html.js';
import { grouped } from './statistics/comparisons.js';

/** What tuning tried for an arm, and the tasks that its choice was for. */
export interface TunedRow extends NonNullable<TrialResult['tuning']> {
  readonly label: string;
  readonly tasks: readonly string[];
}

/** Every choice of a learning rate once, by arm; none where none was tuned. */
export function tunedRows(results: readonly TrialResult[]): TunedRow[] {
  const tuned = results.flatMap(({ arm, task, tuning }) => (tuning ? [{ arm, task, tuning }] : []));
  return grouped(tuned, ({ arm, tuning }) => [arm, tuning])
    .map((same) => ({ label: same[0].arm, tasks: [...new Set(same.map(({ task }) => task))], ...same[0].tuning }))
    .sort((a, b) => a.label.localeCompare(b.label, 'en'));
}

/** The learning rates of all grids, from the smallest. */
export function ratesOf(rows: readonly TunedRow[]): number[] {
  const rates = new Set(rows.flatMap(({ tried }) => tried.map(({ learningRate }) => learningRate)));
  return [...rates].sort((a, b) => a - b);
}

/** What a learning rate scored on the selection rows; nothing where it is not in the arm's grid. */
export function scoreOf({ tried }: TunedRow, rate: number): string {
  const found = tried.find(({ learningRate }) => learningRate === rate);
  if (!found) return '';
  return found.score === null ? 'failed' : formatMetric(found.score);
}

/** The choice, in words. */
export function choiceOf({ chosen }: TunedRow): string {
  return chosen === null ? 'none: every one failed' : formatSmall(chosen);
}

/** The learning rates that were tried for each arm, and the one that was chosen; nothing where none was tuned. */
export function tuningSection(results: readonly TrialResult[]): Markup | null {
  const rows = tunedRows(results);
  if (rows.length === 0) return null;
  const rates = ratesOf(rows);
  return html`<section>
    <h2>Learning rates tried</h2>
    <p class="note">
      As many for every arm, scored on the rows that select, with seeds of their own. Framed is the one that was chosen.
    </p>
    <div class="card scroll">
      <table class="matrix">
        <thead>
          <tr>
            <td></td>
            ${rates.map((rate) => html`<th scope="col">${formatSmall(rate)}</th>`)}
            <th scope="col">chosen</th>
          </tr>
        </thead>
        <tbody>
          ${rows.map(
            (row) =>
              html`<tr>
                <th scope="row">${name(row.label)}<small>${name(row.tasks.join(', '))}</small></th>
                ${rates.map((rate) => html`<td class="${rate === row.chosen ? 'chosen' : 'tried'}">${scoreOf(row, rate)}</td>`)}
                <td>${choiceOf(row)}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}
