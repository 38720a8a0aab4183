import type { TrialResult } from '../../results/schema.js';
import { formatSmall } from '../format.js';
import { html, name, type Markup } from '../html.js';
import { choiceOf, ratesOf, scoreOf, tunedRows } from '../tuning.js';

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
