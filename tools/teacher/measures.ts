import { mean as meanOf, sampleStandardDeviation, sum } from 'simple-statistics';
import { rankCorrelation } from '../../packages/bench/src/report/statistics/stability.js';
import type { Ranks } from './allocations.js';

/** How well the kept ranks match the true ones. */
export interface Recovery {
  /** Pearson correlation over modules; null if all modules have the same rank. */
  readonly correlation: number | null;
  /** 2 sum min(kept, true) / (sum kept + sum true). */
  readonly f1: number;
  /** The same over modules, counting only whether a module has any rank. */
  readonly moduleF1: number;
}

/** Compares kept ranks with true ones. @param truth names all modules; a module missing from `kept` has rank 0 */
export function recovery(kept: Ranks, truth: Ranks): Recovery {
  const any = (ranks: Ranks): Ranks =>
    Object.fromEntries(Object.entries(ranks).map(([path, rank]) => [path, Math.sign(rank)]));
  return {
    correlation: rankCorrelation(kept, truth),
    f1: rankF1(kept, truth),
    moduleF1: rankF1(any(kept), any(truth)),
  };
}

function rankF1(kept: Ranks, truth: Ranks): number {
  const [x, y] = paired(kept, truth);
  return (2 * sum(x.map((rank, at) => Math.min(rank, y[at] as number)))) / (sum(x) + sum(y));
}

function paired(a: Ranks, b: Ranks): [number[], number[]] {
  const paths = Object.keys(b);
  return [paths.map((path) => a[path] ?? 0), paths.map((path) => b[path] as number)];
}

/** Returns the mean correlation over all pairs of rank maps; null if no pair has one. */
export function agreement(maps: readonly Ranks[]): number | null {
  const pairs = maps.flatMap((a, at) => maps.slice(at + 1).map((b) => rankCorrelation(a, b)));
  return average(pairs)?.mean ?? null;
}

/** A mean with its standard error. */
export interface Average {
  /** The mean. */
  readonly mean: number;
  /** The standard error; 0 for a single value. */
  readonly error: number;
}

/** Averages the values that are not null; null if there are none. */
export function average(values: readonly (number | null)[]): Average | null {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  const error = known.length === 1 ? 0 : sampleStandardDeviation(known) / Math.sqrt(known.length);
  return { mean: meanOf(known), error };
}
