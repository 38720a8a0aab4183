import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { createRng, type HostTensor, type Rng } from '@peftjs/core/method';
import { layerNorm } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { compiled, eager } from '@peftjs/engine';
import { floats, runOnce, withGradients } from './cases.js';

const LARGEST = 400;

/** A shape with as many elements, factorised at random. */
function refactored(size: number, rng: Rng): number[] {
  const divisors = Array.from({ length: size }, (_, index) => index + 1).filter((dim) => size % dim === 0);
  const dim = divisors[rng.integer(divisors.length)] ?? 1;
  if (rng.uniform() < 0.4) return rng.uniform() < 0.3 ? [1, size] : [size];
  return [dim, ...refactored(size / dim, rng)].slice(0, 5);
}

function broadcasts(a: Tensor, b: Tensor): boolean {
  const [longer, shorter] = a.rank < b.rank ? [b.shape, a.shape] : [a.shape, b.shape];
  const offset = longer.length - shorter.length;
  const fits = shorter.every((dim, axis) => dim === 1 || longer[offset + axis] === 1 || dim === longer[offset + axis]);
  return fits && a.size * b.size <= LARGEST * 20;
}

/** The steps that a program may take; each keeps numbers of moderate size. */
const MOVES: readonly ((x: Tensor, other: Tensor, rng: Rng) => Tensor)[] = [
  (x, _, rng) => {
    const shape = refactored(x.size, rng);
    return tf.util.sizeFromShape(shape) === x.size ? tf.reshape(x, shape) : tf.reshape(x, [-1]);
  },
  (x) => tf.tanh(x),
  (x, other) => tf.tanh(tf.add(x, other)),
  (x, other) => tf.mul(tf.tanh(x), other),
  (x, other) => tf.where(tf.greater(tf.scalar(0), tf.scalar(1)), tf.sub(x, other), tf.sub(other, x)),
  (x, _, rng) => (x.rank === 0 ? x : tf.mean(x, rng.integer(x.rank), rng.uniform() < 0.5)),
  (x) => (x.rank === 0 ? x : tf.sub(x, tf.mean(x, -1, true))),
  (x, _, rng) => tf.transpose(x, Array.from(rng.permutation(x.rank))),
  (x) => (x.size * 2 > LARGEST ? x : tf.broadcastTo(x, [2, ...x.shape])),
  (x) => (x.size * 2 > LARGEST || x.rank > 3 ? x : tf.tile(tf.expandDims(x, 0), [2, ...x.shape.map(() => 1)])),
  (x) => tf.mul(x, tf.ones(x.rank < 4 && x.size * 2 <= LARGEST ? [2, ...x.shape] : x.shape)),
  (x, _, rng) => (x.rank === 0 || x.size * 2 > LARGEST ? x : tf.concat([x, tf.neg(x)], rng.integer(x.rank))),
  (x) => {
    const last = x.shape.at(-1) ?? 1;
    return last % 2 === 0 ? (tf.split(x, 2, -1)[1] as Tensor) : x;
  },
  (x) => {
    const last = x.shape.at(-1) ?? 1;
    return last < 2 ? x : layerNorm(x, tf.linspace(0.5, 1, last), tf.ones([last]), 1e-2);
  },
];

/** Twelve random steps over a few tensors, the same for every executor. */
function program(seed: number): PureFunction {
  return ({ x, y }) => {
    const rng = createRng(seed);
    const tensors = [x as Tensor, y as Tensor];
    const pick = (fits: (tensor: Tensor) => boolean): Tensor => {
      const candidates = tensors.filter(fits);
      return candidates[rng.integer(candidates.length)] as Tensor;
    };
    for (let move = 0; move < 12; move++) {
      const at = pick(() => true);
      const other = pick((tensor) => tensor === at || broadcasts(at, tensor));
      const apply = MOVES[rng.integer(MOVES.length)];
      const result = apply?.(at, other, rng);
      if (result !== undefined && result.size <= LARGEST && result.rank <= 4) tensors.push(result);
    }
    return Object.fromEntries(tensors.map((tensor, index) => [`t${index}`, tensor]));
  };
}

/** The largest difference, relative to 1 or more: a mean subtracted from itself leaves nothing but rounding errors. */
function error(got: HostTensor | undefined, expected: HostTensor): number {
  if (got?.shape.join() !== expected.shape.join()) return Infinity;
  const largest = Math.max(1, ...expected.data.map(Math.abs));
  return Math.max(0, ...expected.data.map((value, index) => Math.abs(value - (got.data[index] ?? NaN)))) / largest;
}

describe('random programs of views, broadcasts and rearrangements', () => {
  it.each(Array.from({ length: 130 }, (_, seed) => seed))('%i', async (seed) => {
    const inputs = { x: floats([2, 3, 4], -1, 1, seed), y: floats([6, 4], -1, 1, seed + 100) };
    const fn = withGradients(program(seed), ['x', 'y']);
    const expected = await runOnce(await eager({ backend: 'cpu' }), fn, inputs);
    const got = await runOnce(compiled({ threads: 1 }), fn, inputs);
    const errors = Object.entries(expected).map(([name, value]) => [name, error(got[name], value)] as const);
    expect(errors.filter(([, size]) => !(size <= 1e-5))).toEqual([]);
  });
});
