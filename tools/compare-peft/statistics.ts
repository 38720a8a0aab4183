import { mean, sampleStandardDeviation } from 'simple-statistics';

/**
 * The .975 quantiles of Student's t for 1, 2, .. degrees of freedom. Beyond these the last one is used, which is a
 * little too wide.
 */
const T_975 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086,
];

/** A mean with its 95 % interval. */
export interface Interval {
  /** The mean. */
  readonly mean: number;
  /** The lower end. */
  readonly low: number;
  /** The upper end. */
  readonly high: number;
}

/** The mean of independent values with Student's 95 % interval, which is unbounded for fewer than two values. */
export function meanInterval(values: readonly number[]): Interval {
  const centre = mean([...values]);
  if (values.length < 2) return { mean: centre, low: -Infinity, high: Infinity };
  const quantile = T_975[Math.min(values.length - 1, T_975.length) - 1] as number;
  const half = (quantile * sampleStandardDeviation([...values])) / Math.sqrt(values.length);
  return { mean: centre, low: centre - half, high: centre + half };
}
