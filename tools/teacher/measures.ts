import { mean as meanOf, sampleStandardDeviation, sum } from 'simple-statistics';
import { rankCorrelation } from '../../packages/bench/src/report/statistics/stability.js';
import type { Ranks } from './allocations.js';

/** How well kept ranks fit the true ones. */
export interface Recovery {
  /** Pearson correlation over modules; null where all modules have the same rank. */
  readonly correlation: number | null;
  /** 2 sum min(kept, true) / (sum kept + sum true). */
  readonly f1: number;
  /** The same for which modules have any rank at all. */
  readonly moduleF1: number;
}

/** @param truth names all modules; one that `kept` leaves out has rank 0 */
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

/** The mean correlation of every two of several rank maps; null where no two have one. */
export function agreement(maps: readonly Ranks[]): number | null {
  const pairs = maps.flatMap((a, at) => maps.slice(at + 1).map((b) => rankCorrelation(a, b)));
  return average(pairs)?.mean ?? null;
}

/** A mean and its standard error; 0 for one value. */
export interface Average {
  readonly mean: number;
  readonly error: number;
}

/** Over the values there are; null where there are none. */
export function average(values: readonly (number | null)[]): Average | null {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  const error = known.length === 1 ? 0 : sampleStandardDeviation(known) / Math.sqrt(known.length);
  return { mean: meanOf(known), error };
}
