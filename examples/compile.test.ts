import { hostTensor } from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import { compiled, eager } from '@peftjs/engine';
import { expect, it } from 'vitest';
import { leastSquares } from './compile.js';

/** Rows of three features, and their products with [[1, 2], [-1, 0], [0.5, 3]]. */
function problem() {
  const rng = createRng(1);
  const rows = Array.from({ length: 20 }, () => [rng.normal(), rng.normal(), rng.normal()] as const);
  return {
    x: hostTensor(Float32Array.from(rows.flat()), [20, 3]),
    y: hostTensor(Float32Array.from(rows.flatMap(([a, b, c]) => [a - b + 0.5 * c, 2 * a + 3 * c])), [20, 2]),
  };
}

it.each([
  ['compiled', () => compiled({ threads: 1 })],
  ['eagerly', () => eager({ backend: 'cpu' })],
])('finds the weights of a linear map %s', async (_, open) => {
  const { x, y } = problem();
  const { weight, loss } = await leastSquares(x, y, 200, await open());
  expect(weight.shape).toEqual([3, 2]);
  expect(loss).toBeLessThan(1e-6);
  for (const [at, expected] of [1, 2, -1, 0, 0.5, 3].entries()) expect(weight.data[at]).toBeCloseTo(expected, 3);
});
