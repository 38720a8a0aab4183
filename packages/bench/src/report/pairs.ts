import { cell, heading, note, paragraph, table, type Block, type Cell, type Column } from './blocks.js';
import type { Contest } from './contest.js';
import { formatMetric, formatPlainP, formatSigned } from '@peftjs/cli/format';
import type { Comparison } from './statistics/comparisons.js';
import { LEVEL } from './statistics/equivalence.js';
import { comparisonOf } from './statistics/rows.js';

/**
 * The pairs of a contest: on the page all of them, in a text those with p < 0.05 or equivalence; or a sentence if no
 * pair differs reliably.
 */
export function pairBlocks({ pairs, budget, arms }: Contest): Block[] {
  if (pairs.length === 0) return [];
  const title = heading(budget.requested === null ? 'Pairs' : `Pairs at ${budget.spec}`, 3);
  const nothing = nothingDiffers(pairs);
  if (nothing !== null) return [title, paragraph(nothing)];
  const paired = arms.filter(({ label }) => pairs.some(({ a, b }) => a === label || b === label));
  const labels = paired.map(({ label }) => label);
  const shown = pairs.filter((pair) => pair.p < LEVEL || isEquivalent(pair));
  return [
    title,
    note(caption(pairs), 'page'),
    { ...table(matrixColumns(labels, pairs), labels, 'matrix'), only: 'page' },
    note(`Pairs of arms with p < ${LEVEL} or equivalent, ${shown.length} of ${pairs.length}:`, 'text'),
    { ...table(LIST_COLUMNS, shown, 'pairs'), only: 'text' },
  ];
}

const LIST_COLUMNS: readonly Column<Comparison>[] = [
  { title: 'arm', cell: ({ a }) => cell(a) },
  { title: 'minus', cell: ({ b }) => cell(b) },
  { title: 'difference', cell: ({ mean }) => cell(formatSigned(mean)) },
  { title: 'p', cell: ({ p }) => cell(formatPlainP(p)) },
  { title: 'adjusted p', cell: ({ pHolm }) => cell(formatPlainP(pHolm)) },
  { title: 'equivalent', cell: (pair) => cell(isEquivalent(pair) ? 'yes' : '') },
];

/** A sentence for pairs of which none is reliably different or equivalent; null if one is. */
function nothingDiffers(pairs: readonly Comparison[]): string | null {
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
function isEquivalent({ equivalence }: Comparison): boolean {
  return equivalence !== null && equivalence.pHolm <= LEVEL;
}

/** Explains how to read the table. */
function caption(pairs: readonly Comparison[]): string {
  const equivalent = pairs.some(isEquivalent) ? ' ≈ marks a pair that is equivalent within the margin.' : '';
  return `Row minus column, the p of this difference, and p adjusted by Holm over the pairs of this table. Blue where the row is better and orange where the column is: pale where p is below ${LEVEL}, full where the adjusted p is, too.${equivalent}`;
}

/**
 * Every pair of arms: the mean difference, row minus column, above p and the Holm-adjusted p. The colour shows the
 * direction, like the sign, and the strength of evidence, like the p-values.
 */
function matrixColumns(labels: readonly string[], pairs: readonly Comparison[]): Column<string>[] {
  const columns = labels.map((column) => ({
    title: column,
    cell: (row: string) => pairCell(comparisonOf(pairs, row, column)),
  }));
  return [{ title: '', cell: (label) => cell(label) }, ...columns];
}

function pairCell(pair: Comparison | undefined): Cell {
  if (!pair) return { ...cell('–'), look: 'none' };
  const main = `${isEquivalent(pair) ? '≈ ' : ''}${formatSigned(pair.mean)}`;
  return { ...cell(main, `p ${formatPlainP(pair.p)}`, `adj. ${formatPlainP(pair.pHolm)}`), look: outcome(pair) };
}

function outcome({ mean, p, pHolm, lowerIsBetter }: Comparison): string {
  const strength = [p, pHolm].filter((each) => each < LEVEL).length;
  if (strength === 0) return 'open';
  return `${mean > 0 === lowerIsBetter ? 'worse' : 'better'}-${strength}`;
}
