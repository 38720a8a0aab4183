import type { Rng } from '@peftjs/core';
import type { Row } from './data-set.js';
import { grouped } from './grouped.js';

/** Rows that are drawn together, and the stratum they count for. */
export interface Unit {
  readonly stratum: string | number;
  readonly rows: readonly number[];
}

/**
 * Draws units without replacement, from each stratum in proportion to its rows. Units that no longer fit are passed over; where
 * they leave a gap, the smallest of them closes it if that misses the count by less.
 * @returns row numbers, ascending
 */
export function drawRows(units: readonly Unit[], count: number, rng: Rng): number[] {
  const strata = [...grouped(units, ({ stratum }) => stratum).values()];
  const quotas = proportionalQuotas(strata.map(sizeOf), count);
  const drawn = strata.flatMap((stratum, index) => fill(stratum, quotas[index] ?? 0, rng));
  return drawn.sort((a, b) => a - b);
}

/**
 * Draws `count` rows away from the rest, stratified; rows with the same texts stay together.
 * @returns row numbers of both sides, ascending
 */
export function splitOff(
  rows: readonly Row[],
  count: number,
  { stratumOf, rng }: { readonly stratumOf: (row: number) => string | number; readonly rng: Rng },
): { drawn: number[]; rest: number[] } {
  const sameTexts = grouped(rows.keys(), (row) => textsOf(rows[row] as Row));
  const units = Array.from(sameTexts.values(), (members) => ({ stratum: stratumOf(members[0] ?? 0), rows: members }));
  const drawn = drawRows(units, count, rng);
  const taken = new Set(drawn);
  return { drawn, rest: [...rows.keys()].filter((row) => !taken.has(row)) };
}

/** Shares of `total` in proportion to the sizes, whole by the method of the largest remainder. */
function proportionalQuotas(sizes: readonly number[], total: number): number[] {
  const sum = sizes.reduce((before, size) => before + size, 0);
  const exact = sizes.map((size) => (size * total) / sum);
  const quotas = exact.map(Math.floor);
  const remainder = (index: number) => (exact[index] as number) - (quotas[index] as number);
  const missing = total - quotas.reduce((before, quota) => before + quota, 0);
  const first = [...sizes.keys()].sort((a, b) => remainder(b) - remainder(a) || a - b).slice(0, missing);
  for (const index of first) quotas[index] = (quotas[index] as number) + 1;
  return quotas;
}

function fill(units: readonly Unit[], quota: number, rng: Rng): number[] {
  const taken: Unit[] = [];
  let gap = quota;
  let smallest: Unit | undefined;
  for (const index of rng.permutation(units.length)) {
    const unit = units[index] as Unit;
    if (unit.rows.length <= gap) {
      taken.push(unit);
      gap -= unit.rows.length;
    } else if (!smallest || unit.rows.length < smallest.rows.length) {
      smallest = unit;
    }
  }
  if (smallest && smallest.rows.length - gap < gap) taken.push(smallest);
  return taken.flatMap(({ rows }) => rows);
}

function sizeOf(units: readonly Unit[]): number {
  return units.reduce((size, { rows }) => size + rows.length, 0);
}

function textsOf({ text, pair }: Row): string {
  return JSON.stringify([text, pair]);
}
