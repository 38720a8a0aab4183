import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { hostTensor, onWarning } from '@peftjs/core';
import type { HostTensors, Tensors } from '@peftjs/core/method';
import type { CompileOptions, PureFunction } from '@peftjs/core/runtime';
import { compiled, eager } from '@peftjs/engine';
import { describe, expect, it, onTestFinished } from 'vitest';
import { sizedSpecs, type Sizes, type Specs } from '../src/axes.js';
import { keptBytesAt } from '../src/compiled/forward-pass.js';
import type { ModelGraph } from '../src/compiled/onnx.js';
import { recomputed } from '../src/compiled/recompute.js';
import { trace } from '../src/compiled/trace.js';
import { floats, runWith } from './cases.js';

const LAYERS = 8;
const WIDTH = 6;
const weights = Array.from({ length: LAYERS }, (_, layer) => `w${layer}`);

/** A layer: attention without projections, and a product with a trained matrix. */
function layer(x: Tensor, w: Tensor, mask: Tensor): Tensor {
  const scores = tf.matMul(x, tf.transpose(x, [0, 2, 1])); // [B, T, T]
  const mixed = tf.matMul(tf.softmax(tf.add(scores, mask)), x); // [B, T, H]
  const product = tf.matMul(tf.reshape(mixed, [-1, WIDTH]), w); // [B * T, H]
  return tf.add(x, tf.reshape(tf.tanh(product), x.shape));
}

/** The mean square of a network's outputs, times a factor, and its gradients. */
const gradients: PureFunction = (inputs) => {
  const { x, factor, ...trained } = inputs as { x: Tensor; factor: Scalar } & Tensors;
  const loss = (...given: Tensor[]): Scalar => {
    const mask = tf.mul(tf.sub(1, tf.ones([1, x.shape[1] as number, 1])), 1e9); // every layer reads it
    const y = given.reduce((below, w) => layer(below, w, mask), x);
    return tf.mul(tf.mean(tf.square(y)), factor);
  };
  const { value, grads } = tf.valueAndGrads(loss)(weights.map((name) => trained[name] as Tensor));
  return { value, ...Object.fromEntries(weights.map((name, at) => [`d${name}`, grads[at] as Tensor])) };
};
const specs: Specs = {
  x: { dtype: 'float32', shape: ['batch', 'tokens', WIDTH] },
  factor: { dtype: 'float32', shape: [] },
  ...Object.fromEntries(weights.map((name) => [name, { dtype: 'float32', shape: [WIDTH, WIDTH] }])),
};
const inputs = (factor = 1): HostTensors => ({
  x: floats([2, 5, WIDTH]),
  factor: hostTensor(Float32Array.of(factor), []),
  ...Object.fromEntries(weights.map((name) => [name, floats([WIDTH, WIDTH])])),
});
const traceAt = (sizes: Sizes) => trace(gradients, sizedSpecs(specs, sizes));

/** The largest number of elements that are in memory at once, if the nodes run in this order. */
function peak({ nodes, outputs }: ModelGraph): number {
  const names = outputs.map(({ name }) => name);
  const lastRead = new Map(nodes.flatMap(({ inputs }, index) => inputs.map((name) => [name, index] as const)));
  const made = nodes.flatMap(({ outputs, traced }, index) =>
    outputs.map((name, place) => ({
      from: index,
      to: names.includes(name) ? Infinity : (lastRead.get(name) ?? index),
      size: (traced?.made[place]?.shape ?? [2, 5, WIDTH]).reduce((product, dim) => product * dim, 1),
    })),
  );
  const inUse = nodes.map((_, index) =>
    made.reduce((sum, { from, to, size }) => sum + (from <= index && index <= to ? size : 0), 0),
  );
  return Math.max(...inUse);
}

const executor = compiled({ threads: 1 });
async function outputsOf(options: CompileOptions, given = inputs()): Promise<HostTensors> {
  const fn = await executor.compile(gradients, specs, {}, options);
  const outputs = await runWith(executor, fn, given);
  await fn.dispose();
  return outputs;
}

describe('a graph with recomputation', () => {
  it.each([1, 0, -1, Infinity])('computes the same numbers, for gradients times %d', async (factor) => {
    const expected = await outputsOf({ gradientCheckpointing: false }, inputs(factor));
    expect(await outputsOf({ gradientCheckpointing: true }, inputs(factor))).toEqual(expected);
  });

  it('needs much less memory, and computes no layer more than twice', async () => {
    const graph = await traceAt({ batch: 2, tokens: 5 });
    const again = recomputed(graph);
    expect(peak(again)).toBeLessThan(peak(graph) / 2);
    const softmaxes = ({ nodes }: ModelGraph): number => nodes.filter(({ op }) => op === 'Softmax').length;
    expect(softmaxes(graph)).toBe(LAYERS);
    expect(softmaxes(again)).toBeGreaterThan(LAYERS);
    expect(softmaxes(again)).toBeLessThan(2 * LAYERS);
  });

  it('is the graph itself where nothing is differentiated', async () => {
    const graph = await trace(
      ({ x }) => ({ y: tf.softmax(x as Tensor) }),
      sizedSpecs({ x: specs.x as Specs[string] }, { batch: 2, tokens: 5 }),
    );
    expect(recomputed(graph)).toBe(graph);
  });
});

it.each([
  { batch: 1, tokens: 1024 },
  { batch: 40, tokens: 7 },
])('estimates what is kept at other sizes: %j', async (at) => {
  const sizes = [
    { batch: 2, tokens: 9 },
    { batch: 5, tokens: 14 },
  ];
  const traces = await Promise.all(sizes.map(traceAt));
  const exact = keptBytesAt({}, [await traceAt(at)], [{}]);
  expect(keptBytesAt(at, traces, sizes) / exact).toBeCloseTo(1, 1);
});

describe('by default', () => {
  const warningsFor = async (options: CompileOptions): Promise<string[]> => {
    const warnings: string[] = [];
    onTestFinished(onWarning((message) => warnings.push(message)));
    await outputsOf(options);
    return warnings;
  };

  it('is on, and says so, if the largest run would keep more than half of the free memory', async () => {
    expect(await warningsFor({ largest: { batch: 1000, tokens: 1e6 } })).toEqual([
      expect.stringMatching(
        /^gradientCheckpointing is on: without it, a step would keep \d+\.\d GB .* half of the \d+\.\d GB/,
      ),
    ]);
  });

  it('is off for small runs, and for those of unknown size', async () => {
    expect(await warningsFor({ largest: { batch: 2, tokens: 5 } })).toEqual([]);
    expect(await warningsFor({})).toEqual([]);
  });
});

it('has no effect on an eager executor, which says so', async () => {
  const warnings: string[] = [];
  onTestFinished(onWarning((message) => warnings.push(message)));
  const slow = await eager({ backend: 'cpu' });
  await slow.compile(gradients, specs, {}, { gradientCheckpointing: true });
  expect(warnings).toEqual([expect.stringMatching(/^gradientCheckpointing has no effect with eager\(\)/)]);
});
