import { mean, sampleStandardDeviation } from 'simple-statistics';
import { studentQuantile } from '../../packages/bench/src/report/statistics/student.js';

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
  const quantile = studentQuantile(0.025, values.length - 1);
  const half = (quantile * sampleStandardDeviation([...values])) / Math.sqrt(values.length);
  return { mean: centre, low: centre - half, high: centre + half };
}
