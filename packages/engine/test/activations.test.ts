import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import { hostTensor, type Executor } from '@peftjs/core';
import { activations, type ActivationName } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { expect, it } from 'vitest';
import { runOnce } from './cases.js';

/** Written by tools/golden/activations.py. */
interface Golden {
  readonly x: readonly number[];
  readonly values: Readonly<Record<ActivationName, { readonly y: number[]; readonly slope: number[] }>>;
}

const { x, values } = JSON.parse(readFileSync(new URL('fixtures/activations.json', import.meta.url), 'utf8')) as Golden;
const executors: readonly (readonly [string, Executor])[] = [
  ['the compiled engine', compiled({ threads: 1 })],
  ['the reference', await eager({ backend: 'cpu' })],
];

/** All activations at once, and their derivatives. */
const all: PureFunction = ({ x }) =>
  Object.fromEntries(
    Object.entries(activations).flatMap(([name, activation]) => [
      [name, activation(x as tf.Tensor)],
      [`${name}'`, tf.grad((at: tf.Tensor) => tf.sum(activation(at)))(x as tf.Tensor)],
    ]),
  );

it.each(executors)('match transformers by every name, and so do their derivatives, on %s', async (_, executor) => {
  expect(Object.keys(activations)).toEqual(Object.keys(values));
  const results = await runOnce(executor, all, { x: hostTensor(Float32Array.from(x), [x.length]) });
  for (const [name, { y, slope }] of Object.entries(values)) {
    expect(relativeDistance(results[name]?.data ?? [], y), name).toBeLessThan(1e-6);
    expect(relativeDistance(results[`${name}'`]?.data ?? [], slope), `${name}'`).toBeLessThan(1e-5);
  }
});
