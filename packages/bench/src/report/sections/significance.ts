import type { Comparison } from '../../statistics/comparisons.js';
import { reversed } from '../../statistics/over-tasks.js';
import { formatPlainP, formatSigned } from '../format.js';
import { html, name, type Markup } from '../html.js';

/** What p must be below for a pair to be called different. */
const LEVEL = 0.05;

/**
 * Every pair of arms in a table: the mean difference, row minus column, over p and its Holm-adjusted form. The colour
 * says which way, as the sign does, and how far to trust it, as both p do.
 */
export function significanceTable(labels: readonly string[], comparisons: readonly Comparison[]): Markup {
  return html`<div class="scroll">
    <table class="matrix">
      <thead>
        <tr>
          <td></td>
          ${labels.map((label) => html`<th scope="col">${name(label)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${labels.map(
          (row) =>
            html`<tr>
              <th scope="row">${name(row)}</th>
              ${labels.map((column) => cell(comparisonOf(comparisons, row, column)))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

/** How to read the table. */
export function significanceCaption(isOverTasks: boolean): string {
  const family = isOverTasks ? 'the pairs of this table' : 'the tasks';
  return `Row minus column, the p of this difference, and p adjusted by Holm over ${family}. Blue where the row is better and orange where the column is: pale where p is below ${LEVEL}, full where the adjusted p is, too.`;
}

function comparisonOf(comparisons: readonly Comparison[], row: string, column: string): Comparison | undefined {
  const found = comparisons.find(({ a, b }) => (a === row && b === column) || (a === column && b === row));
  return found && found.a !== row ? reversed(found) : found;
}

function cell(comparison: Comparison | undefined): Markup {
  if (!comparison) return html`<td class="none">–</td>`;
  const { mean, p, pHolm } = comparison;
  return html`<td class="${verdict(comparison)}">
    ${formatSigned(mean)}<small>p ${formatPlainP(p)}</small><small>adj. ${formatPlainP(pHolm)}</small>
  </td>`;
}

function verdict({ mean, p, pHolm, lowerIsBetter }: Comparison): string {
  const strength = [p, pHolm].filter((each) => each < LEVEL).length;
  if (strength === 0) return 'open';
  return `${mean > 0 === lowerIsBetter ? 'worse' : 'better'}-${strength}`;
}
