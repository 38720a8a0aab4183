import { mean, quantileSorted, sampleStandardDeviation } from 'simple-statistics';
import type { Rng } from '@peftjs/core';

/** Resamples behind every interval. */
export const RESAMPLES = 10_000;

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** What a handful of seeds say; one seed says nothing about the spread. */
export interface Estimate {
  readonly mean: number;
  /** Sample standard deviation (n - 1). */
  readonly sd: number | null;
  /** 95 % bootstrap interval of the mean. */
  readonly interval: Interval | null;
}

/** Mean, spread and interval of at least one value. */
export function estimate(values: readonly number[], rng: Rng): Estimate {
  const sample = [...values];
  if (sample.length < 2) return { mean: mean(sample), sd: null, interval: null };
  return { mean: mean(sample), sd: sampleStandardDeviation(sample), interval: bootstrapInterval(sample, rng) };
}

/** The percentile bootstrap: 95 % of the means of samples drawn with replacement. */
export function bootstrapInterval(values: readonly number[], rng: Rng, resamples = RESAMPLES): Interval {
  const means = Float64Array.from({ length: resamples }, () => resampledMean(values, rng)).sort();
  const sorted = Array.from(means);
  return { low: quantileSorted(sorted, 0.025), high: quantileSorted(sorted, 0.975) };
}

function resampledMean(values: readonly number[], rng: Rng): number {
  let sum = 0;
  for (let drawn = 0; drawn < values.length; drawn++) sum += values[rng.integer(values.length)] as number;
  return sum / values.length;
}
