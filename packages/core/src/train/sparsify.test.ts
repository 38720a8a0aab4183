import { describe, expect, it } from 'vitest';
import { ConfigError } from '../errors.js';
import { sparsifyingLevels, type LevelSpacing } from './sparsify.js';

const close = (actual: readonly number[], expected: readonly number[]): void => {
  expect(actual).toHaveLength(expected.length);
  actual.forEach((value, index) => expect(value).toBeCloseTo(expected[index] as number, 12));
};

describe('sparsifyingLevels', () => {
  it("trap 12: spaces the released script's seven levels by 7e-4 / 6", () => {
    const levels = sparsifyingLevels('linear', 0, 7e-4, 7);
    close(
      levels,
      [0, 1, 2, 3, 4, 5, 6].map((stage) => (stage * 7e-4) / 6),
    );
    expect((levels[1] as number).toFixed(8)).toBe('0.00011667');
  });

  it('trap 12: takes logarithms of evenly spaced exponentials, and vice versa', () => {
    close(sparsifyingLevels('log_linear', 0, 2, 3), [0, Math.log((1 + Math.exp(2)) / 2), 2]);
    close(sparsifyingLevels('exp_linear', 1e-4, 1e-2, 3), [1e-4, 1e-3, 1e-2]);
  });

  it.each(['linear', 'log_linear', 'exp_linear'] as const)('trap 12: rises from first to last: %s', (kind) => {
    const levels = sparsifyingLevels(kind, 1e-4, 7e-4, 9);
    expect(levels[0]).toBe(1e-4);
    expect(levels[8]).toBe(7e-4);
    levels.slice(1).forEach((level, index) => expect(level).toBeGreaterThan(levels[index] as number));
    expect(sparsifyingLevels(kind, 1e-4, 7e-4, 1)).toEqual([1e-4]);
  });

  it.each([
    ['exp_linear', 0, 1, 3, 'from'],
    ['exp_linear', 1, 0, 3, 'to'],
    ['linear', NaN, 1, 3, 'from'],
    ['linear', 0, Infinity, 3, 'to'],
    ['linear', 0, 1, 0, 'stages'],
    ['linear', 0, 1, 2.5, 'stages'],
    ['toString', 0, 1, 3, 'kind'],
  ] as const)('trap 12: rejects %s from %f to %f in %f stages', (kind, from, to, stages, field) => {
    expect(() => sparsifyingLevels(kind as LevelSpacing, from, to, stages)).toThrow(
      expect.objectContaining({ code: new ConfigError('').code, path: field }),
    );
  });
});
