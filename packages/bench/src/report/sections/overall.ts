import { grouped } from '../../statistics/arms.js';
import type { OverallRow } from '../../statistics/over-tasks.js';
import { meritOf } from '../../statistics/summary-row.js';
import type { Summary } from '../../statistics/summary.js';
import { seriesByLabel } from '../contents.js';
import { overallChart } from '../charts/scores.js';
import { formatAdjustedP, formatCount, formatInterval, formatMetric, formatSigned } from '../format.js';
import { html, name, type Markup } from '../html.js';
import { disclosure, figure } from './parts.js';
import { significanceCaption, significanceTable } from './significance.js';

/** The mean over the tasks of each model that has several. */
export async function overallSections({ rows: all, overall, comparisons, reference }: Summary): Promise<Markup[]> {
  const seriesOf = seriesByLabel(all);
  const ofModels = grouped(overall, ({ model }) => model);
  return Promise.all(
    ofModels.map(async (rows) => {
      const [{ model, tasks }] = rows;
      const title = ofModels.length > 1 ? `Over all tasks · ${model}` : 'Over all tasks';
      const pairs = comparisons.filter((each) => each.task === null && each.model === model);
      const budgets = grouped(
        rows.filter(({ budget }) => budget.requested !== null),
        ({ budget }) => budget.spec,
      );
      return html`<section>
        <h2>${name(title)}</h2>
        <p class="note">
          The mean of ${tasks.length} tasks, each counting alike: ${name(tasks.join(', '))}. Below it, its interval, and
          the difference to ${name(reference)} with p adjusted over the pairs of the budget.
        </p>
        <div class="pair">
          <div class="card scroll">${overallTable(rows)}</div>
          ${await figure('Mean quality against size', CHART_CAPTION, [], overallChart(rows, seriesOf))}
        </div>
        ${budgets.map(([first, ...others], index) => {
          const labels = [first, ...others].map(({ label }) => label);
          const ofBudget = pairs.filter(({ budget }) => budget === first.budget.spec);
          const content = html`<div class="card">
            <p class="note">${significanceCaption(true)}</p>
            ${significanceTable(labels, ofBudget)}
          </div>`;
          return ofBudget.length === 0
            ? null
            : disclosure(`Who differs at ${first.budget.spec}`, content, index === budgets.length - 1);
        })}
      </section>`;
    }),
  );
}

const CHART_CAPTION =
  'Mean over the tasks with its 95 % interval. The steps join the best mean at each size; what is under them is faded.';

/** Arms down, budgets across. */
function overallTable(rows: readonly OverallRow[]): Markup {
  const [free, asked] = [true, false].map((isFree) =>
    rows.filter(({ budget }) => (budget.requested === null) === isFree),
  );
  const budgets = grouped([...(asked ?? []), ...(free ?? [])], ({ budget }) => budget.spec).map(
    ([{ budget }]) => budget,
  );
  const labels = [...new Set([...rows].sort((a, b) => meritOf(b) - meritOf(a)).map(({ label }) => label))];
  const rowOf = (label: string, spec: string): OverallRow | undefined =>
    rows.find((row) => row.label === label && row.budget.spec === spec);
  return html`<table class="overall">
    <thead>
      <tr>
        <td></td>
        ${budgets.map(
          ({ spec, requested, matchedOn }) =>
            html`<th scope="col">
              ${name(requested === null ? 'no budget' : spec)}${
                requested === null ? null : html`<small>${formatCount(requested)} ${matchedOn}</small>`
              }
            </th>`,
        )}
      </tr>
    </thead>
    <tbody>
      ${labels.map(
        (label) =>
          html`<tr>
            <th scope="row">${name(label)}</th>
            ${budgets.map(({ spec }) => cell(rowOf(label, spec)))}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function cell(row: OverallRow | undefined): Markup {
  if (!row) return html`<td></td>`;
  const { score, difference, rank } = row;
  return html`<td class="${rank === 1 ? 'first' : 'other'}">
    ${formatMetric(score.mean)}${score.interval ? html` <small>${formatInterval(score.interval)}</small>` : null}${
      difference ? html`<small>${formatSigned(difference.mean)}, ${formatAdjustedP(difference.pHolm)}</small>` : null
    }
  </td>`;
}
