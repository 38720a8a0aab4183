import { describe, expect, it } from 'vitest';
import { linePath, rangeOf, scalesOf, smoothed, ticksOf } from '../../docs/live/charts/curve.js';
import { heatMap } from '../../docs/live/charts/heat-map.js';

const frame = { width: 120, height: 60, left: 10, right: 10, top: 5, bottom: 5 };

describe('a curve', () => {
  it('goes from the lower left to the upper right corner', () => {
    const scales = scalesOf(frame, 100, { low: 0.5, high: 1 });
    const points = [
      { step: 0, value: 0.5 },
      { step: 50, value: 0.75 },
      { step: 100, value: 1 },
    ];
    expect(linePath(points, scales)).toBe('M10,55L60,30L110,5');
    expect(linePath([], scales)).toBe('');
  });

  it('is smoothed without a bias at its beginning', () => {
    const level = [1, 2, 3].map((step) => ({ step, value: 4 }));
    expect(smoothed(level)).toEqual(level);
    const [first, second] = smoothed(
      [
        { step: 1, value: 0 },
        { step: 2, value: 1 },
      ],
      0.5,
    );
    expect([first?.value, second?.value]).toEqual([0, 1 / 1.5]);
  });

  it('has a range that contains it, and round ticks', () => {
    expect(rangeOf([], 0.05, { low: 0, high: 1 })).toEqual({ low: 0, high: 1 });
    const { low, high } = rangeOf([0.87, 0.91], 0.05, { low: 0, high: 1 });
    expect([low, high].map((value) => value.toFixed(2))).toEqual(['0.85', '0.95']);
    expect(rangeOf([2, 2], 1, { low: 0, high: 1 })).toEqual({ low: 2, high: 3 });
    expect(ticksOf({ low: 0, high: 1 })).toEqual([0, 0.5, 1]);
    expect(ticksOf({ low: 0.7, high: 0.95 })).toEqual([0.7, 0.8, 0.9]);
  });
});

describe('a heat map', () => {
  const modules = [
    { path: 'encoder.layer.1.ffn.in', layer: 1, sizes: [2, 0, 1e-9] },
    { path: 'encoder.layer.0.attention.qkv', layer: 0, sizes: [0, 0, 0] },
  ];

  it('has a row per module, below its layer, and a cell per rank', () => {
    const layers = heatMap(modules);
    expect(layers.map(({ layer, rows }) => [layer, ...rows.map(({ name, alive }) => `${name} ${alive}`)])).toEqual([
      [0, 'attention.qkv 0'],
      [1, 'ffn.in 2'],
    ]);
  });

  it('shows a weak rank and a pruned rank differently', () => {
    const strengths = heatMap(modules)[1]?.rows[0]?.cells.map(({ strength }) => strength) ?? [];
    expect(strengths[0]).toBe(1);
    expect(strengths[1]).toBe(0);
    expect(strengths[2]).toBeGreaterThan(0.1);
  });
});
