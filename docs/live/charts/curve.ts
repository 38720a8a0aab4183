import type { Point } from '../session.js';

/** The size of a drawing and the margins around its chart, in px. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

/** A range of values. */
export interface Range {
  readonly low: number;
  readonly high: number;
}

/** The positions of a step and of a value in a chart, in px. */
export interface Scales {
  x(step: number): number;
  y(value: number): number;
}

/** Returns the scales of a chart with steps from 0 to `lastStep` and values in `range`. */
export function scalesOf(frame: Frame, lastStep: number, { low, high }: Range): Scales {
  const across = frame.width - frame.left - frame.right;
  const down = frame.height - frame.top - frame.bottom;
  return {
    x: (step) => frame.left + (across * step) / Math.max(1, lastStep),
    y: (value) => frame.top + down * (1 - (value - low) / (high - low)),
  };
}

/** Returns an SVG path through the points, rounded to 0.1 px; an empty string for no points. */
export function linePath(points: readonly Point[], { x, y }: Scales): string {
  return points.map(({ step, value }, index) => `${index ? 'L' : 'M'}${tenth(x(step))},${tenth(y(value))}`).join('');
}

/**
 * Returns the points with each value replaced by an exponential moving average, corrected for bias at the start.
 * @param memory weight of the previous average, from 0 (no smoothing) to 1 (the plain mean of all values so far)
 */
export function smoothed(points: readonly Point[], memory = 0.85): Point[] {
  let sum = 0;
  let weight = 0;
  return points.map(({ step, value }) => {
    sum = memory * sum + value;
    weight = memory * weight + 1;
    return { step, value: sum / weight };
  });
}

/**
 * Returns the smallest range of whole `unit`s that contains all values and is at least one `unit` wide.
 * @param fallback the range of no values
 */
export function rangeOf(values: readonly number[], unit: number, fallback: Range): Range {
  if (values.length === 0) return fallback;
  const low = Math.floor(Math.min(...values) / unit) * unit;
  const high = Math.ceil(Math.max(...values) / unit) * unit;
  return { low, high: high > low ? high : low + unit };
}

/** Returns about `count` round values within a range. */
export function ticksOf({ low, high }: Range, count = 4): number[] {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

function tenth(value: number): number {
  return Math.round(10 * value) / 10;
}
