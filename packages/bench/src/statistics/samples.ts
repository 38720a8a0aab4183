import { createRng } from '@peftjs/core';
import { mean, quantileSorted, sampleStandardDeviation } from 'simple-statistics';

/** Resamples behind every interval. */
export const RESAMPLES = 10_000;

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** What a handful of seeds say; one seed says nothing about the spread. */
export interface Estimate {
  readonly mean: number;
  /** Sample standard deviation (n - 1); null of a mean over tasks, whose spreads have nothing in common. */
  readonly sd: number | null;
  /** 95 % bootstrap interval of the mean. */
  readonly interval: Interval | null;
}

/** Mean, spread and interval of at least one value. */
export function estimate(values: readonly number[]): Estimate {
  const sample = [...values];
  if (sample.length < 2) return { mean: mean(sample), sd: null, interval: null };
  return { mean: mean(sample), sd: sampleStandardDeviation(sample), interval: bootstrapInterval([sample]) };
}

/** The mean of the tasks' means, each task counting alike; its interval is of other seeds, not of other tasks. */
export function estimateOverTasks(byTask: readonly (readonly number[])[]): Estimate {
  const means = byTask.map((values) => mean([...values]));
  const interval = byTask.every(({ length }) => length > 1) ? bootstrapInterval(byTask) : null;
  return { mean: mean(means), sd: null, interval };
}

/**
 * The percentile bootstrap of a mean of strata's means: 95 % of what comes of samples drawn with replacement within each stratum.
 * Samples of one size are resampled alike, so that the interval of `b - a` is that of `a - b` turned round.
 */
export function bootstrapInterval(strata: readonly (readonly number[])[]): Interval {
  const means = new Float64Array(RESAMPLES);
  for (const [stratum, values] of strata.entries()) {
    const drawn = resamplesOf(values.length, stratum);
    for (let row = 0; row < RESAMPLES; row++) {
      let sum = 0;
      const end = (row + 1) * values.length;
      for (let index = row * values.length; index < end; index++) sum += values[drawn[index] as number] as number;
      means[row] = (means[row] as number) + sum / values.length / strata.length;
    }
  }
  const sorted = Array.from(means.sort());
  return { low: quantileSorted(sorted, 0.025), high: quantileSorted(sorted, 0.975) };
}

const resamples = new Map<string, Uint16Array>();

/** Which values the resamples take, [RESAMPLES x size]: the same for every sample of a size. */
function resamplesOf(size: number, stratum: number): Uint16Array {
  const key = `${stratum} of ${size}`;
  const known = resamples.get(key);
  if (known) return known;
  const rng = createRng(0).fork(key);
  const drawn = Uint16Array.from({ length: RESAMPLES * size }, () => rng.integer(size));
  resamples.set(key, drawn);
  return drawn;
}
