import { ConfigError, createRng, DataError } from '@peftjs/core';
import { checkPositive } from '../encode.js';
import { grouped } from '../grouped.js';
import { drawRows } from '../sampling.js';
import { type CausalData, type CausalRow, countTruncated } from './causal-data.js';

/** Training rows of a language set cut in two. */
export interface CausalSplit {
  readonly train: CausalData;
  readonly selection: CausalData;
}

/**
 * Sets a share of encoded rows aside to select checkpoints on: seeded, equal rows on the same side.
 * @throws ConfigError for a share outside (0, 1), DataError when one side would be empty.
 */
export function splitCausal(
  data: CausalData,
  { share = 0.1, seed }: { readonly share?: number | undefined; readonly seed: number },
): CausalSplit {
  if (!(share > 0 && share < 1)) {
    throw new ConfigError(`expected the share to lie between 0 and 1, got ${share}`, 'share');
  }
  const equal = grouped(data.rows.keys(), (row) => (data.rows[row] as CausalRow).ids.join());
  const units = Array.from(equal.values(), (rows) => ({ stratum: 0, rows }));
  const count = Math.max(1, Math.round(share * data.rows.length));
  const drawn = new Set(drawRows(units, count, createRng(seed).fork('selection')));
  const part = (chosen: boolean) => data.rows.filter((_, row) => drawn.has(row) === chosen);
  const [train, selection] = [part(false), part(true)];
  if (train.length === 0 || selection.length === 0) {
    const came = `${data.rows.length}, too few or too alike; give shorter rows or a file of their own`;
    throw new DataError(`${data.name}: expected rows to set a share of ${share} aside, got ${came}`, data.name);
  }
  return {
    train: { ...withRows(data, train), name: `${data.name}/train` },
    selection: { ...withRows(data, selection), name: `${data.name}/selection` },
  };
}

/**
 * `count` encoded rows drawn by a seed, in their order; the data themselves where they have no more.
 * @throws ConfigError when `count` is no positive integer.
 */
export function sliceCausal(data: CausalData, count: number, seed: number): CausalData {
  checkPositive('count', count);
  if (count >= data.rows.length) return data;
  const units = data.rows.map((_, row) => ({ stratum: 0, rows: [row] }));
  const drawn = drawRows(units, count, createRng(seed).fork('slice'));
  return withRows(
    data,
    drawn.map((row) => data.rows[row] as CausalRow),
  );
}

function withRows(data: CausalData, rows: readonly CausalRow[]): CausalData {
  return { ...data, rows, truncated: countTruncated(rows) };
}
