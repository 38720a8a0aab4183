import { hostTensor } from '@peftjs/core';
import { tensorAt } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { scaled } from '@peftjs/core/linalg';
import { initialOf, layersOf } from '@peftjs/conformance';
import { describe, expect, it } from 'vitest';
import { bayesLora } from './index.js';
import { lowerMedian, rankLogAlpha } from './policy.js';

it('takes the lower of two middle values, as torch does', () => {
  expect(lowerMedian(Float64Array.of(4, 2, 3, 1))).toBe(2);
  expect(lowerMedian(Float64Array.of(10, -3, 9))).toBe(9);
});

describe('log alpha of a rank', () => {
  const loraA = hostTensor(Float32Array.of(1, 0.5, 2, 0.5, 3, 4), [3, 2]);
  const loraB = hostTensor(Float32Array.of(2, -4, 0, 1), [2, 2]);
  const logSigma2 = hostTensor(Float32Array.of(-8, 1), [2]);

  it('is the mean of the medians of A and B', () => {
    const [first = 0, second = 0] = rankLogAlpha({ loraA, loraB, logSigma2 });
    // Squares of the first rank: 1, 4, 9 and 4, 16. The lower middle log alpha belongs to the larger square.
    expect(first).toBeCloseTo((-8 - Math.log(4) + (-8 - Math.log(16))) / 2, 7);
    expect(second).toBeCloseTo((1 - Math.log(0.25) + (1 - Math.log(1))) / 2, 7);
  });

  it('does not change if A grows as B shrinks', () => {
    const turned = rankLogAlpha({ loraA: scaled(loraA, 4), loraB: scaled(loraB, 0.25), logSigma2 });
    rankLogAlpha({ loraA, loraB, logSigma2 }).forEach((value, rank) => expect(turned[rank]).toBeCloseTo(value, 5));
  });

  it.each([
    [768, 768, 3.6],
    [3072, 768, 4.29],
  ])(
    'starts at about the expected value in a module of %i inputs and %i outputs: %f',
    (inFeatures, outFeatures, expected) => {
      const layers = layersOf(bayesLora, [linearSite('m', inFeatures, outFeatures)], { r: 16 });
      const values = rankLogAlpha(initialOf(tensorAt(layers, 'm')));
      expect(Math.abs(values.reduce((sum, value) => sum + value, 0) / 16 - expected)).toBeLessThan(0.05);
    },
  );
});
