import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { hostTensor, onWarning, type Executor } from '@peftjs/core';
import { hostIntegers, ShapeError, type HostTensors, type Tensors } from '@peftjs/core/method';
import { softmaxCrossEntropy } from '@peftjs/core/nn';
import type { CompiledFunction, InputSpec, PureFunction } from '@peftjs/core/runtime';
import { referenceExecutor } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { floats, integers, runOnce, runWith } from './cases.js';

const executor = compiled({ threads: 1 });
const at = (t: Tensors, name: string): Tensor => t[name] as Tensor;
const dim = (x: Tensor, axis: number): number => x.shape[axis] as number;

let warnings: string[] = [];
beforeEach(() => {
  warnings = [];
  return onWarning((message) => warnings.push(message));
});

type Specs = Readonly<Record<string, InputSpec>>;
type Sizes = Readonly<Record<string, number>>;

/** Random inputs for specs at given sizes; integers are less than `below`. */
function given(specs: Specs, sizes: Sizes, below = 3): HostTensors {
  return Object.fromEntries(
    Object.entries(specs).map(([key, { dtype, shape }], seed) => {
      const dims = shape.map((axis) => {
        if (typeof axis === 'number') return axis;
        const [factor, name] = axis.includes('*') ? axis.split('*') : ['1', axis];
        return Number(factor) * (sizes[name as string] as number);
      });
      return [key, dtype === 'int32' ? integers(dims, 0, below, seed) : floats(dims, -2, 2, seed)];
    }),
  );
}

const run = (fn: CompiledFunction<OrtTensor>, inputs: HostTensors): Promise<HostTensors> =>
  runWith(executor, fn, inputs);

const f = (...shape: (number | string)[]): InputSpec => ({ dtype: 'float32', shape });
const i = (...shape: (number | string)[]): InputSpec => ({ dtype: 'int32', shape });

/** Adds the gradient of a scalar with respect to one input to the function's outputs. */
function withGradient(loss: (t: Tensors) => Tensor, of: string): PureFunction {
  return (t) => {
    const { value, grad } = tf.valueAndGrad((x: Tensor) => loss({ ...t, [of]: x }) as Scalar)(at(t, of));
    return { loss: value, grad };
  };
}

const functions: Readonly<Record<string, { fn: PureFunction; specs: Specs; sizes: readonly Sizes[] }>> = {
  'in-batch negatives: the square of the batch, and a range as labels': {
    specs: { a: f('batch', 4), b: f('batch', 4) },
    sizes: [{ batch: 1 }, { batch: 2 }, { batch: 5 }],
    fn: withGradient((t) => {
      const logits = tf.matMul(at(t, 'a'), at(t, 'b'), false, true); // [batch, batch]
      const batch = dim(logits, 0);
      return tf.mean(softmaxCrossEntropy(logits, tf.range(0, batch, 1, 'int32')));
    }, 'a'),
  },
  'in-batch negatives with one-hot labels, flattened': {
    specs: { a: f('batch', 4), b: f('batch', 4) },
    sizes: [{ batch: 2 }, { batch: 5 }],
    fn: withGradient((t) => {
      const logits = tf.matMul(at(t, 'a'), at(t, 'b'), false, true);
      const batch = dim(logits, 0);
      const labels = tf.oneHot(tf.range(0, batch, 1, 'int32'), batch);
      return tf.sum(tf.mul(tf.reshape(tf.logSoftmax(logits), [batch * batch]), tf.reshape(labels, [-1])));
    }, 'b'),
  },
  'pairs in one input, a multiple of the batch': {
    specs: { x: f('2*batch', 3), y: f('batch') },
    sizes: [{ batch: 1 }, { batch: 2 }, { batch: 7 }],
    fn: withGradient((t) => {
      const [a, b] = tf.split(at(t, 'x'), 2, 0) as [Tensor, Tensor];
      return tf.sum(tf.mul(tf.sum(tf.mul(a, b), 1), at(t, 'y')));
    }, 'x'),
  },
  'pairs with an axis of their own, halved': {
    specs: { x: f('pairs', 3) },
    sizes: [{ pairs: 2 }, { pairs: 8 }],
    fn: (t) => {
      const [a, b] = tf.split(at(t, 'x'), 2, 0) as [Tensor, Tensor];
      return { y: tf.sub(a, b), half: tf.scalar(dim(a, 0)) };
    },
  },
  'pictures, whose sides are multiples of a patch': {
    specs: { x: f('batch', '4*height') },
    sizes: [
      { batch: 1, height: 2 },
      { batch: 3, height: 1 },
    ],
    fn: withGradient((t) => tf.sum(tf.square(tf.reshape(at(t, 'x'), [-1, 4]))), 'x'),
  },
  'two batches in one': {
    specs: { a: f('batch', 'tokens', 3), b: f('others', 'tokens', 3) },
    sizes: [
      { batch: 1, others: 2, tokens: 3 },
      { batch: 4, others: 1, tokens: 1 },
    ],
    fn: withGradient((t) => {
      const all = tf.concat([at(t, 'a'), at(t, 'b')], 0);
      return tf.sum(tf.square(tf.reshape(all, [dim(all, 0), dim(all, 1) * 3])));
    }, 'b'),
  },
  'past tokens and new ones': {
    specs: { past: f('batch', 'past', 4), own: f('batch', 'tokens', 4) },
    sizes: [
      { batch: 2, past: 5, tokens: 1 },
      { batch: 1, past: 0, tokens: 3 },
      { batch: 3, past: 2, tokens: 2 },
    ],
    fn: (t) => {
      const [past, own] = [at(t, 'past'), at(t, 'own')];
      const all = tf.concat([past, own], 1); // [batch, past + tokens, 4]
      const [batch, keys] = all.shape as [number, number];
      const [before, tokens] = [dim(past, 1), dim(own, 1)];
      const heads = (x: Tensor, count: number): Tensor =>
        tf.transpose(tf.reshape(x, [batch, count, 2, 2]), [0, 2, 1, 3]);
      const scores = tf.matMul(heads(own, tokens), heads(all, keys), false, true); // [batch, 2, tokens, keys]
      const places = tf.expandDims(tf.range(before, before + tokens, 1, 'int32'), 1);
      const mayLook = tf.lessEqual(tf.range(0, keys, 1, 'int32'), places); // [tokens, keys]
      const weights = tf.softmax(tf.where(mayLook, scores, tf.fill(scores.shape, -1e9)));
      return {
        y: tf.reshape(tf.transpose(tf.matMul(weights, heads(all, keys)), [0, 2, 1, 3]), [batch * tokens, 4]),
        all,
      };
    },
  },
  'the next token of flattened rows': {
    specs: { logits: f('batch', 'tokens', 3), labels: i('batch', 'tokens') },
    sizes: [
      { batch: 2, tokens: 5 },
      { batch: 1, tokens: 2 },
    ],
    fn: withGradient((t) => {
      const [batch, tokens, classes] = at(t, 'logits').shape as [number, number, number];
      const rows = batch * (tokens - 1);
      const logits = tf.reshape(tf.slice(at(t, 'logits'), [0, 0, 0], [batch, tokens - 1, classes]), [rows, classes]);
      const labels = tf.reshape(tf.slice(at(t, 'labels'), [0, 1], [batch, tokens - 1]), [rows]);
      return tf.div(tf.sum(softmaxCrossEntropy(logits, labels)), rows);
    }, 'logits'),
  },
  'rows gathered by range, backwards': {
    specs: { x: f('batch', 'tokens') },
    sizes: [
      { batch: 2, tokens: 3 },
      { batch: 4, tokens: 1 },
    ],
    fn: withGradient((t) => {
      const [batch, tokens] = at(t, 'x').shape as [number, number];
      const turned = tf.gather(at(t, 'x'), tf.range(tokens - 1, -1, -1, 'int32'), 1);
      return tf.sum(tf.mul(turned, tf.reshape(tf.range(0, batch * tokens, 1), [batch, tokens])));
    }, 'x'),
  },
  'running products and pairs of tokens': {
    specs: { x: f('batch', 'tokens') },
    sizes: [
      { batch: 2, tokens: 4 },
      { batch: 1, tokens: 2 },
    ],
    fn: (t) => {
      const tokens = dim(at(t, 'x'), 1);
      return { y: tf.cumprod(at(t, 'x'), 1), pairs: tf.scalar((tokens * (tokens - 1)) / 2, 'int32') };
    },
  },
  'a function with a short context': {
    specs: { x: f('batch', 'tokens') },
    sizes: [
      { batch: 2, tokens: 4 },
      { batch: 11, tokens: 6 },
    ],
    fn: (t) => {
      if (dim(at(t, 'x'), 1) > 6) throw new ShapeError('at most 6 tokens');
      return { y: tf.add(at(t, 'x'), tf.range(0, dim(at(t, 'x'), 1))) };
    },
  },
  'sizes of an input that is not read otherwise': {
    specs: { x: f(3), mask: f('batch', 'tokens') },
    sizes: [{ batch: 2, tokens: 4 }],
    fn: (t) => ({ y: tf.tile(tf.reshape(at(t, 'x'), [1, 3]), [dim(at(t, 'mask'), 0) * dim(at(t, 'mask'), 1), 1]) }),
  },
};

describe('one graph for every size', () => {
  it.each(Object.entries(functions))('%s', async (_, { fn, specs, sizes }) => {
    const open = await executor.compile(fn, specs);
    for (const size of sizes) {
      const inputs = given(specs, size);
      expect(await run(open, inputs), JSON.stringify(size)).toEqual(await runOnce(executor, fn, inputs));
    }
    expect(warnings).toEqual([]);
    await open.dispose();
  });

  it('runs at many sizes at the same time', async () => {
    const { fn, specs } = functions['the next token of flattened rows'] as (typeof functions)[string];
    const open = await executor.compile(fn, specs);
    const inputs = [2, 9, 4].map((tokens) => given(specs, { batch: 2, tokens }));
    const together = await Promise.all(inputs.map((one) => run(open, one)));
    for (const [index, one] of inputs.entries()) expect(together[index]).toEqual(await run(open, one));
    await open.dispose();
  });
});

describe('the sizes of a run', () => {
  const specs = { ids: i('batch', 'tokens'), mask: f('batch', 'tokens'), pairs: f('2*batch') };
  const fn: PureFunction = (t) => ({ y: tf.mul(tf.cast(at(t, 'ids'), 'float32'), at(t, 'mask')) });
  const executors: Readonly<Record<string, () => Promise<Executor>>> = {
    compiled: () => Promise.resolve(executor as Executor),
    eager: () => eager({ backend: 'cpu' }),
  };

  it.each(Object.entries(executors))('give each name one size: %s', async (_, made) => {
    const one = await made();
    const prepared = await one.compile(fn, specs);
    const inputs = (tokens: number, pairs: number, batch = 2) => ({
      ids: one.upload(hostIntegers(new Int32Array(6).fill(2), [2, 3])),
      mask: one.upload(hostTensor(new Float32Array(batch * tokens).fill(1), [batch, tokens])),
      pairs: one.upload(hostTensor(new Float32Array(pairs), [pairs])),
    });
    const { y } = await prepared.run(inputs(3, 4));
    expect((await one.download(y)).shape).toEqual([2, 3]);
    await expect(prepared.run(inputs(4, 4))).rejects.toThrow(
      "'tokens' is 4 in input 'mask', but 'tokens' is 3 in input 'ids'; a named axis has the same size in all inputs of a run",
    );
    await expect(prepared.run(inputs(4, 4))).rejects.toThrow(ShapeError);
    await expect(prepared.run(inputs(3, 5))).rejects.toThrow(
      "'2*batch' is 5 in input 'pairs'; expected a multiple of 2",
    );
    await expect(prepared.run(inputs(3, 6))).rejects.toThrow("'2*batch' is 6 in input 'pairs', but 'batch' is 2");
    await expect(prepared.run({ ...inputs(3, 4), mask: inputs(3, 6).pairs })).rejects.toThrow(
      /'mask' must be float32 \[batch, tokens\], got float32 \[6\]/,
    );
    await prepared.dispose();
  });

  it.each(Object.entries(executors))('include sums of axes: %s', async (_, made) => {
    const one = await made();
    const all = { past: f('past'), own: f('tokens'), mask: f('past + tokens') };
    const prepared = await one.compile((t) => ({ y: tf.mul(at(t, 'mask'), 2) }), all);
    const vector = (length: number) => one.upload(hostTensor(new Float32Array(length), [length]));
    const inputs = { past: vector(3), own: vector(2) };
    await expect(prepared.run({ ...inputs, mask: vector(1) })).rejects.toThrow(
      "input 'mask' must be [5] beside the other inputs, got [1]",
    );
    expect((await one.download((await prepared.run({ ...inputs, mask: vector(5) }))['y'])).shape).toEqual([5]);
    await prepared.dispose();
  });

  it('may differ for the reference', async () => {
    const one = await referenceExecutor();
    const prepared = await one.compile(fn, specs);
    for (const tokens of [1, 3]) {
      const y = await prepared.run({ ids: tf.ones([2, tokens], 'int32'), mask: tf.ones([2, tokens]) });
      expect(y.y?.shape).toEqual([2, tokens]);
    }
  });
});

describe('a function that is not one graph for every size', () => {
  it('is compiled once per size, with one warning that names the node', async () => {
    const fn: PureFunction = (t) => ({ y: tf.mul(at(t, 'x'), 1 / dim(at(t, 'x'), 0)) });
    const prepared = await executor.compile(fn, { x: f('batch') });
    const before = prepared.compileMs;
    for (const batch of [2, 3, 2]) {
      const x = floats([batch]);
      expect(await run(prepared, { x })).toEqual(await runOnce(executor, fn, { x }));
    }
    expect(prepared.compileMs).toBeGreaterThan(before);
    expect(warnings).toEqual([
      "a compiled function is not one graph for every size of 'batch': it is unknown how the float32 [] depends on the sizes " +
        "(at node 'Mul'); it is compiled once for each size",
    ]);
    await prepared.dispose();
  });

  it('may be one for even sizes', async () => {
    const fn: PureFunction = (t) => ({ y: tf.mul(at(t, 'x'), Math.ceil(dim(at(t, 'x'), 0) / 2)) });
    const prepared = await executor.compile(fn, { x: f('batch') });
    for (const batch of [4, 5]) {
      const x = floats([batch]);
      expect(await run(prepared, { x })).toEqual(await runOnce(executor, fn, { x }));
    }
    await prepared.dispose();
  });

  it('keeps the sessions of the most recently used sizes', async () => {
    const create = vi.fn((...given: Parameters<typeof ort.InferenceSession.create>) =>
      ort.InferenceSession.create(...given),
    );
    const runtime = { Tensor: ort.Tensor, InferenceSession: { create } as never };
    const counting = compiled({ threads: 1, runtime, executionProviders: ['cpu'] });
    const fn: PureFunction = (t) => ({ y: dim(at(t, 'x'), 0) > 80 ? tf.exp(at(t, 'x')) : tf.neg(at(t, 'x')) });
    const prepared = await counting.compile(fn, { x: f('batch') });
    const sizes = (count: number) => Array.from({ length: count }, (_, size) => size + 1);
    const runAll = async (all: readonly number[]) => {
      for (const size of all) await prepared.run({ x: counting.upload(floats([size])) });
    };
    await runAll(sizes(40));
    expect(create).toHaveBeenCalledTimes(40);
    await runAll([40, 39, 38]);
    expect(create).toHaveBeenCalledTimes(40);
    await runAll([1]);
    expect(create).toHaveBeenCalledTimes(41);
    await prepared.dispose();
  });

  it('throws its own error when it rejects every size', async () => {
    const mine = new RangeError('mine');
    const fn = (): never => {
      throw mine;
    };
    await expect(executor.compile(fn, { x: f('batch') })).rejects.toBe(mine);
  });
});
