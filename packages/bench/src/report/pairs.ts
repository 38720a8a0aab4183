import { LEVEL, type Contest } from './contest.js';
import { formatMetric, formatPlainP, formatSigned } from './format.js';
import { html, name, type Markup } from './html.js';
import type { Comparison } from './statistics/comparisons.js';
import { reversed } from './statistics/rows.js';

/** All pairs of a contest: a table, or a sentence if no pair differs reliably. */
export function pairsPart(contest: Contest): Markup | null {
  const { pairs, budget, arms } = contest;
  if (pairs.length === 0) return null;
  const title = html`<h3>${name(budget.requested === null ? 'Pairs' : `Pairs at ${budget.spec}`)}</h3>`;
  const nothing = nothingDiffers(pairs);
  if (nothing !== null)
    return html`${title}
      <p>${name(nothing)}</p>`;
  const paired = arms.filter(({ label }) => pairs.some(({ a, b }) => a === label || b === label));
  return html`${title}
    <div class="card">
      <p class="note">${caption(contest)}</p>
      ${pairsTable(
        paired.map(({ label }) => label),
        pairs,
      )}
    </div>`;
}

/** A sentence for pairs of which none is reliably different or equivalent; null if one is. */
export function nothingDiffers(pairs: readonly Comparison[]): string | null {
  if (pairs.some((pair) => pair.pHolm < LEVEL || isEquivalent(pair))) return null;
  const closest = [...pairs].sort((x, y) => x.p - y.p)[0];
  if (!closest) return null;
  const ends = pairs.flatMap(({ interval }) => (interval ? [Math.abs(interval.low), Math.abs(interval.high)] : []));
  const { a, b, mean, p, pHolm } = closest;
  const which =
    pairs.length === 1
      ? 'The only pair does not differ significantly'
      : `None of the ${pairs.length} pairs differs significantly`;
  const bound =
    ends.length === 0 ? '' : ` By the 95 % intervals, a difference may be up to ${formatMetric(Math.max(...ends))}.`;
  return `${which} after correction. The smallest p belongs to ${a} minus ${b}: ${formatSigned(mean)}, p ${formatPlainP(p)}, adjusted ${formatPlainP(pHolm)}.${bound}`;
}

/** Whether a pair is shown to be equivalent within the margin. */
export function isEquivalent({ equivalence }: Comparison): boolean {
  return equivalence !== null && equivalence.pHolm <= LEVEL;
}

/** Explains how to read the table. */
function caption({ pairs }: Contest): string {
  const equivalent = pairs.some(isEquivalent) ? ' ≈ marks a pair that is equivalent within the margin.' : '';
  return `Row minus column, the p of this difference, and p adjusted by Holm over the pairs of this table. Blue where the row is better and orange where the column is: pale where p is below ${LEVEL}, full where the adjusted p is, too.${equivalent}`;
}

/**
 * A table of every pair of arms: the mean difference, row minus column, above p and the Holm-adjusted p. The colour
 * shows the direction, like the sign, and the strength of evidence, like the p-values.
 */
function pairsTable(labels: readonly string[], pairs: readonly Comparison[]): Markup {
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
              ${labels.map((column) => pairCell(pairOf(pairs, row, column)))}
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

function pairOf(pairs: readonly Comparison[], row: string, column: string): Comparison | undefined {
  const found = pairs.find(({ a, b }) => (a === row && b === column) || (a === column && b === row));
  return found && found.a !== row ? reversed(found) : found;
}

function pairCell(pair: Comparison | undefined): Markup {
  if (!pair) return html`<td class="none">–</td>`;
  const { mean, p, pHolm } = pair;
  return html`<td class="${outcome(pair)}">
    ${isEquivalent(pair) ? '≈ ' : ''}${formatSigned(mean)}<small>p ${formatPlainP(p)}</small
    ><small>adj. ${formatPlainP(pHolm)}</small>
  </td>`;
}

function outcome({ mean, p, pHolm, lowerIsBetter }: Comparison): string {
  const strength = [p, pHolm].filter((each) => each < LEVEL).length;
  if (strength === 0) return 'open';
  return `${mean > 0 === lowerIsBetter ? 'worse' : 'better'}-${strength}`;
}
