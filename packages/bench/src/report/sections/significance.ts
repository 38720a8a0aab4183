import type { Comparison } from '../../statistics/comparisons.js';
import { reversed } from '../../statistics/over-tasks.js';
import { formatPlainP, formatSigned } from '../format.js';
import { html, name, type Markup } from '../html.js';

/** What a pair's adjusted p must be below to be called different; the stronger colour is for the second. */
const LEVELS = [0.05, 0.01];

/**
 * Every pair of arms in a table: the mean difference, row minus column, over p and its Holm-adjusted form. What is coloured may
 * be relied on, by its adjusted p; the colour says which way, and so does the sign.
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
  return `Row minus column, the p of this difference, and p adjusted by Holm over ${family}. Coloured where the adjusted p is below 0.05, strongly where it is below 0.01: blue where the row is better, orange where the column is.`;
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

function verdict({ mean, pHolm, lowerIsBetter }: Comparison): string {
  const strength = LEVELS.filter((level) => pHolm < level).length;
  if (strength === 0) return 'open';
  return `${mean > 0 === lowerIsBetter ? 'worse' : 'better'}-${strength}`;
}
