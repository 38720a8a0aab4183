import type { Point } from '../session.js';

/** The place of a chart in its drawing, in px. */
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

/** Where a step and a value stand in a chart. */
export interface Scales {
  x(step: number): number;
  y(value: number): number;
}

export function scalesOf(frame: Frame, lastStep: number, { low, high }: Range): Scales {
  const across = frame.width - frame.left - frame.right;
  const down = frame.height - frame.top - frame.bottom;
  return {
    x: (step) => frame.left + (across * step) / Math.max(1, lastStep),
    y: (value) => frame.top + down * (1 - (value - low) / (high - low)),
  };
}

/** An SVG path through points, in tenths of a px; empty for none. */
export function linePath(points: readonly Point[], { x, y }: Scales): string {
  return points.map(({ step, value }, index) => `${index ? 'L' : 'M'}${tenth(x(step))},${tenth(y(value))}`).join('');
}

/** The points with each value replaced by a mean in which older ones fade: 0 fades at once, 1 never. */
export function smoothed(points: readonly Point[], memory = 0.85): Point[] {
  let sum = 0;
  let weight = 0;
  return points.map(({ step, value }) => {
    sum = memory * sum + value;
    weight = memory * weight + 1;
    return { step, value: sum / weight };
  });
}

/** The smallest range of whole `unit`s that holds all values, and not only one; `fallback` of none. */
export function rangeOf(values: readonly number[], unit: number, fallback: Range): Range {
  if (values.length === 0) return fallback;
  const low = Math.floor(Math.min(...values) / unit) * unit;
  const high = Math.ceil(Math.max(...values) / unit) * unit;
  return { low, high: high > low ? high : low + unit };
}

/** About `count` round values within a range. */
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
