import { hostTensor } from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { expect, it } from 'vitest';
import { distancesOf, largestDistance } from './parity.js';

const vector = (...values: number[]) => hostTensor(Float32Array.from(values), [values.length]);
const [given, wanted] = [vector(1, 2.5, -3), vector(1, 2, -3)];

it('the distance of a tensor is the relative distance of the conformance suite', () => {
  const distances = distancesOf({ x: given, zero: vector(0) }, { x: wanted, zero: vector(0) });
  expect(distances).toEqual({ x: relativeDistance([...given.data], [...wanted.data]), zero: 0 });
});

it('a tensor is infinitely far if one side lacks it, if the sizes differ, or if it is not a number', () => {
  expect(distancesOf({ a: given }, { b: given })).toEqual({ a: Infinity, b: Infinity });
  expect(distancesOf({ a: vector(1) }, { a: given })).toEqual({ a: Infinity });
  expect(distancesOf({ a: vector(NaN, 2) }, { a: vector(1, 2) })).toEqual({ a: Infinity });
});

it('the farthest tensor of each kind is named', () => {
  const expected = { outputs: { y: wanted }, gradients: { p: wanted, q: wanted }, steps: { p: wanted } };
  const actual = { ...expected, gradients: { p: wanted, q: given } };
  expect(largestDistance(actual, expected)).toMatchObject({
    outputs: { distance: 0 },
    gradients: { tensor: 'q' },
    steps: { distance: 0 },
  });
});
