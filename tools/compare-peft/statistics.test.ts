import { describe, expect, it } from 'vitest';
import { meanInterval } from './statistics.js';

describe('meanInterval', () => {
  it('has the width of the t distribution', () => {
    const { mean, low, high } = meanInterval([1, 2, 3]);
    expect(mean).toBe(2);
    expect(high - mean).toBeCloseTo(4.302653 / Math.sqrt(3), 6); // t with 2 degrees of freedom, standard deviation 1
    expect(mean - low).toBeCloseTo(high - mean, 12);
  });

  it('has no bounds for one value', () => {
    expect(meanInterval([0.5])).toEqual({ mean: 0.5, low: -Infinity, high: Infinity });
  });
});
