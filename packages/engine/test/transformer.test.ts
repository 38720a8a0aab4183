import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import type { Executor } from '@peftjs/core';
import { hostScalar, hostZeros, type HostTensors, type Tensors } from '@peftjs/core/method';
import { specOf } from '@peftjs/core/model';
import { attention, gelu, layerNorm, linear, maskBias } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { compiled, eager } from '@peftjs/engine';
import { distance, floats, integers } from './cases.js';

const [BATCH, TOKENS, HIDDEN, INNER, RANK, CLASSES] = [3, 5, 8, 16, 2, 3];

const trained: HostTensors = {
  'query.loraA': floats([HIDDEN, RANK], -0.5, 0.5, 1),
  'query.loraB': floats([RANK, HIDDEN], -0.5, 0.5, 2),
  'ffn.in.loraA': floats([HIDDEN, RANK], -0.5, 0.5, 3),
  'ffn.in.loraB': floats([RANK, INNER], -0.5, 0.5, 4),
  'head.weight': floats([HIDDEN, CLASSES], -0.5, 0.5, 5),
};

const frozen: HostTensors = Object.fromEntries(
  Object.entries({
    query: [HIDDEN, HIDDEN],
    key: [HIDDEN, HIDDEN],
    value: [HIDDEN, HIDDEN],
    'ffn.in': [HIDDEN, INNER],
    'ffn.out': [INNER, HIDDEN],
  }).flatMap(([path, shape], seed) => [
    [`${path}.weight`, floats(shape, -0.6, 0.6, 10 + seed)],
    [`${path}.bias`, floats(shape.slice(1), -0.1, 0.1, 20 + seed)],
  ]),
);

const batch: HostTensors = {
  x: floats([BATCH, TOKENS, HIDDEN]),
  mask: {
    dtype: 'float32',
    shape: [BATCH, TOKENS],
    data: Float32Array.from({ length: BATCH * TOKENS }, (_, i) => Number(i % 5 < 3)),
  },
  labels: integers([BATCH], 0, CLASSES),
};

function tensor(t: Tensors, name: string): Tensor {
  return t[name] as Tensor;
}

/** One pre-norm transformer layer with LoRA on two of its matrices, a mean over tokens, a softmax loss. */
function loss(t: Tensors): Scalar {
  const dense = (path: string, x: Tensor): Tensor => {
    const base = linear(x, tensor(t, `${path}.weight`), tensor(t, `${path}.bias`));
    const [a, b] = [t[`${path}.loraA`], t[`${path}.loraB`]];
    return a === undefined || b === undefined ? base : tf.add(base, tf.mul(linear(linear(x, a), b), 2));
  };
  const norm = (x: Tensor): Tensor => layerNorm(x, tf.ones([HIDDEN]), tf.zeros([HIDDEN]), 1e-6);
  const x = norm(tensor(t, 'x')); // [batch, tokens, hidden]
  const y = tf.add(
    x,
    attention(dense('query', x), dense('key', x), dense('value', x), {
      heads: 2,
      maskBias: maskBias(tensor(t, 'mask')),
    }),
  );
  const z = tf.add(y, dense('ffn.out', gelu(dense('ffn.in', norm(y)))));
  const logits = tf.matMul(tf.mean(z, 1), tensor(t, 'head.weight')); // [batch, classes]
  const picked = tf.mul(tf.logSoftmax(logits), tf.oneHot(tensor(t, 'labels') as tf.Tensor1D, CLASSES));
  return tf.neg(tf.mean<Scalar>(tf.sum(picked, -1)));
}

/** Adam with bias correction on every trained tensor. */
const step: PureFunction = (t) => {
  const names = Object.keys(trained);
  const at = (...values: Tensor[]): Scalar =>
    loss({ ...t, ...Object.fromEntries(names.map((name, i) => [name, values[i] as Tensor])) });
  const { value, grads } = tf.valueAndGrads(at)(names.map((name) => tensor(t, name)));
  const outputs: Tensors = { loss: value };
  const correction = (beta: number): Tensor => tf.sub(1, tf.pow(beta, tensor(t, 'step')));
  for (const [index, name] of names.entries()) {
    const gradient = grads[index] as Tensor;
    const m = tf.add(tf.mul(tensor(t, `m.${name}`), 0.9), tf.mul(gradient, 0.1));
    const v = tf.add(tf.mul(tensor(t, `v.${name}`), 0.999), tf.mul(tf.square(gradient), 0.001));
    const change = tf.div(tf.div(m, correction(0.9)), tf.add(tf.sqrt(tf.div(v, correction(0.999))), 1e-8));
    outputs[name] = tf.sub(tensor(t, name), tf.mul(change, 0.01));
    outputs[`m.${name}`] = m;
    outputs[`v.${name}`] = v;
  }
  return outputs;
};

async function fiveSteps<V>(executor: Executor<V>): Promise<{ state: HostTensors; losses: number[] }> {
  const moments = Object.fromEntries(
    Object.entries(trained).flatMap(([name, { shape }]) => [
      [`m.${name}`, hostZeros(shape)],
      [`v.${name}`, hostZeros(shape)],
    ]),
  );
  const inputs: HostTensors = { ...frozen, ...batch, ...trained, ...moments, step: hostScalar(1) };
  const specs = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, specOf(value)]));
  const fn = await executor.compile(step, specs);
  let values = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, executor.upload(value)]));
  const losses: number[] = [];
  for (let at = 1; at <= 5; at++) {
    const { loss, ...next } = await fn.run({ ...values, step: executor.upload(hostScalar(at)) });
    losses.push((await executor.download(loss as V)).data[0] ?? NaN);
    values = { ...values, ...next };
  }
  const state: Record<string, HostTensors[string]> = {};
  for (const name of [...Object.keys(trained), ...Object.keys(moments)])
    state[name] = await executor.download(values[name] as V);
  await fn.dispose();
  return { state, losses };
}

describe('five Adam steps of a transformer layer with LoRA', () => {
  it('give the same numbers compiled and eager', async () => {
    const onnx = await fiveSteps(compiled({ threads: 1 }));
    expect(onnx.losses[4]).toBeLessThan(onnx.losses[0] ?? 0);
    for (const backend of ['wasm', 'cpu'] as const) {
      const { state, losses } = await fiveSteps(await eager({ backend }));
      for (const [name, expected] of Object.entries(state))
        expect([name, distance(onnx.state[name], expected)]).toEqual([name, expect.closeTo(0, 4)]);
      for (const [index, expected] of losses.entries()) expect(onnx.losses[index]).toBeCloseTo(expected, 5);
    }
  });

  it('give bitwise equal numbers when repeated', async () => {
    expect(await fiveSteps(compiled({ threads: 1 }))).toEqual(await fiveSteps(compiled({ threads: 1 })));
  });
});
