import { expect, it } from 'vitest';
import { hostTensor, type HostTensor } from '../tensors.js';
import { distancesOf, farthestTensor } from './distance.js';

const vector = (...values: number[]): HostTensor => hostTensor(Float32Array.from(values), [values.length]);
const [given, wanted] = [vector(1, 2.5, -3), vector(1, 2, -3)];

it('the distance of a tensor is ||a - b|| / ||b||, and 0 of equal ones', () => {
  const distances = distancesOf({ x: given, zero: vector(0) }, { x: wanted, zero: vector(0) });
  expect(distances).toEqual({ x: 0.5 / Math.sqrt(14), zero: 0 });
});

it('a tensor is infinitely far if one side lacks it, if the sizes differ, or if it is not a number', () => {
  expect(distancesOf({ a: given }, { b: given })).toEqual({ a: Infinity, b: Infinity });
  expect(distancesOf({ a: vector(1) }, { a: given })).toEqual({ a: Infinity });
  expect(distancesOf({ a: vector(NaN, 2) }, { a: vector(1, 2) })).toEqual({ a: Infinity });
});

it('the farthest tensor is named', () => {
  expect(farthestTensor({ p: wanted, q: given }, { p: wanted, q: wanted })).toMatchObject({ name: 'q' });
  expect(farthestTensor({ p: wanted }, { p: wanted })).toEqual({ name: '', distance: 0 });
});
