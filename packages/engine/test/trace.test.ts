import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { EngineError, ShapeError, type Tensors } from '@peftjs/core/method';
import { gelu, layerNorm, linear } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { trace } from '@peftjs/engine';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { traceBackend, traceBackendName } from '../src/compiled/trace-backend.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const matrix = { dtype: 'float32', shape: [2, 3] } as const;

function x(tensors: Tensors): Tensor {
  return tensors.x as Tensor;
}

async function ops(fn: PureFunction, specs: Parameters<typeof trace>[1] = { x: matrix }): Promise<string[]> {
  return (await trace(fn, specs)).nodes.map(({ op }) => op);
}

describe('the graph', () => {
  it('holds only what an output depends on', async () => {
    const graph = await trace((t) => ({ y: tf.exp(x(t)), unread: tf.reshape(tf.log(x(t)), [3, 2]) }), {
      x: matrix,
      unused: matrix,
    });
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Exp', 'Log', 'Reshape']);
    const pruned = await trace(
      (t) => {
        tf.log(x(t));
        return { y: tf.mul(tf.exp(x(t)), 3) };
      },
      { x: matrix, unused: matrix },
    );
    expect(pruned.nodes.map(({ op }) => op)).toEqual(['Exp', 'Mul']);
    expect(pruned.inputs.map(({ key }) => key)).toEqual(['x']);
    expect(pruned.constants).toHaveLength(1);
  });

  it('has no last outputs of a node that nothing reads', async () => {
    const norm = (t: Tensors): Tensor => layerNorm(x(t), t.gain as Tensor, t.shift as Tensor, 1e-5);
    const vector = { dtype: 'float32', shape: [3] } as const;
    const graph = (fn: PureFunction) => trace(fn, { x: matrix, gain: vector, shift: vector });
    const [forward] = (await graph((t) => ({ y: norm(t) }))).nodes;
    const [both] = (await graph((t) => ({ dx: tf.grad((x) => norm({ ...t, x }))(x(t)) }))).nodes;
    expect([forward?.outputs.length, both?.outputs.length]).toEqual([1, 3]);
  });

  it('has all parts of a split, whether or not they are read', async () => {
    const graph = await trace((t) => ({ y: tf.split(x(t), 3, 1)[0] as Tensor }), { x: matrix });
    expect(graph.nodes.find(({ op }) => op === 'Split')?.outputs).toHaveLength(3);
  });

  it('holds equal constants and equal nodes once', async () => {
    const graph = await trace(
      (t) => ({
        y: tf.add(tf.mul(x(t), tf.tensor([1, 2, 3])), tf.mul(x(t), tf.tensor([1, 2, 3]))),
        z: tf.mul(x(t), tf.tensor([1, 2, 4])),
      }),
      { x: matrix },
    );
    expect(graph.nodes.map(({ op }) => op)).toEqual(['Mul', 'Add', 'Mul']);
    expect(graph.constants.map(({ data }) => Array.from(data, Number))).toEqual([
      [1, 2, 3],
      [1, 2, 4],
    ]);
  });

  it('keeps constants with the same content but another type or shape separate', async () => {
    const graph = await trace(
      () => ({
        a: tf.tensor([1, 2]),
        b: tf.tensor([1, 2], [2], 'int32'),
        c: tf.tensor([1, 2], [1, 2]),
        zero: tf.scalar(0),
        minus: tf.scalar(-0),
      }),
      {},
    );
    expect(graph.constants).toHaveLength(5);
  });

  it('neither writes out what ONNX broadcasts, nor multiplies by one', async () => {
    expect(await ops((t) => ({ y: tf.mul(tf.exp(x(t)), tf.ones([2, 3])) }))).toEqual(['Exp']);
    expect(await ops((t) => ({ y: tf.add(tf.broadcastTo(tf.tensor([[1], [2]]), [2, 3]), x(t)) }))).toEqual(['Add']);
  });

  it('keeps layers on matrices between the products', async () => {
    const specs = {
      x: { dtype: 'float32', shape: [2, 4, 3] },
      w: { dtype: 'float32', shape: [3, 3] },
      b: { dtype: 'float32', shape: [3] },
    } as const;
    const layer = (t: Tensors): Tensor => linear(x(t), t.w as Tensor, t.b);
    const fn: PureFunction = (t) => ({
      y: tf.add(gelu(layer({ ...t, x: layerNorm(x(t), t.b as Tensor, t.b as Tensor, 1e-5) })), x(t)),
    });
    expect(await ops(fn, specs)).toEqual(['Reshape', 'LayerNormalization', 'MatMul', 'Add', 'Gelu', 'Add', 'Reshape']);
  });

  it('computes no gradients below the first trained tensor', async () => {
    const square = { dtype: 'float32', shape: [3, 3] } as const;
    const fn: PureFunction = (t) => {
      const loss = (w: Tensor): Tensor => tf.sum(tf.matMul(tf.matMul(x(t), t.frozen as Tensor), w));
      const { grads } = tf.valueAndGrads(loss)([t.trained as Tensor]);
      return { gradient: grads[0] as Tensor };
    };
    const products = (await ops(fn, { x: matrix, frozen: square, trained: square })).filter((op) => op === 'MatMul');
    expect(products).toHaveLength(2);
  });

  it('writes a small ONNX file', async () => {
    const bytes = (await trace((t) => ({ y: tf.exp(x(t)) }), { x: matrix })).bytes();
    expect(bytes.length).toBeLessThan(200);
    expect(new TextDecoder().decode(bytes)).toContain('peftjs');
  });
});

describe('what cannot be traced', () => {
  const cases: readonly (readonly [string, PureFunction, RegExp])[] = [
    [
      'a kernel without an ONNX equivalent',
      (t) => ({ y: tf.maxPool(tf.reshape<tf.Rank.R4>(x(t), [1, 2, 3, 1]), 2, 1, 'same') }),
      /'MaxPool' \(asked for by tf\.maxPool\).*eager/,
    ],
    ['an unregistered kernel', (t) => ({ y: tf.engine().runKernel('Mystery', { x: x(t) }) }), /'Mystery'/],
    [
      'a kernel that only the gradient needs',
      (t) => ({ y: tf.grad((a) => tf.localResponseNormalization(tf.reshape<tf.Rank.R4>(a, [1, 1, 2, 3])))(x(t)) }),
      /'LRN'/,
    ],
    ['reading a tensor', (t) => ({ y: tf.scalar(x(t).dataSync()[0] ?? 0) }), /reads a tensor/],
    [
      'reading inside an op',
      (t) => ({ y: tf.booleanMaskAsync as never, z: tf.tensor(x(t).arraySync()) }),
      /reads a tensor/,
    ],
    ['random numbers', (t) => ({ y: tf.add(x(t), tf.randomUniform([3])) }), /tf\.randomUniform would draw/],
    ['dropout', (t) => ({ y: tf.dropout(x(t), 0.5) }), /tf\.dropout would draw/],
    [
      'seeded random numbers',
      (t) => ({ y: tf.add(x(t), tf.randomNormal([3], 0, 1, 'float32', 7)) }),
      /tf\.randomNormal would draw/,
    ],
    ['strings', () => ({ y: tf.tensor(['a']) }), /string/],
    ['complex numbers', (t) => ({ y: tf.complex(x(t), x(t)) }), /'Complex'/],
    ['a promise', (() => Promise.resolve({})) as never, /record of tensors/],
    ['nothing', () => ({}), /record of tensors/],
    ['a bare tensor', x as never, /record of tensors/],
    ['a number', (() => ({ y: 3 })) as never, /'y' is not a tensor/],
    [
      'symmetric mirror padding',
      (t) => ({
        y: tf.mirrorPad(
          x(t),
          [
            [1, 0],
            [0, 0],
          ],
          'symmetric',
        ),
      }),
      /symmetric/,
    ],
    [
      'a gather with other batch axes',
      (t) => ({ y: tf.gather(tf.reshape(x(t), [2, 3, 1]), tf.tensor([[0], [0]], [2, 1], 'int32'), 2, 1) }),
      /batchDims/,
    ],
  ];

  it.each(cases)('%s', async (_, fn, message) => {
    const before = tf.memory().numTensors;
    await expect(trace(fn, { x: matrix })).rejects.toThrow(message);
    await expect(trace(fn, { x: matrix })).rejects.toThrow(EngineError);
    expect(tf.getBackend()).toBe('cpu');
    expect(tf.memory().numTensors).toBe(before);
    expect(
      tf
        .grad((a) => tf.square(a))(tf.scalar(3))
        .dataSync()[0],
    ).toBe(6);
  });

  it('names the op that asked for it, in a gradient, too', async () => {
    const fn: PureFunction = (t) => ({
      y: tf.grad((a) => tf.conv1d(tf.reshape<tf.Rank.R2>(a, [2, 3]), tf.ones([1, 3, 1]), 1, 'same'))(x(t)),
    });
    await expect(trace(fn, { x: matrix })).rejects.toThrow(/'Conv2D' \(asked for by tf\.conv1d > tf\.conv2d\)/);
  });

  it.each([[[-1]], [[NaN]], [[1.5]]])('an input of shape %s', async (shape) => {
    await expect(trace((t) => ({ y: x(t) }), { x: { dtype: 'float32', shape } })).rejects.toThrow(ShapeError);
  });

  it('an input of another type', async () => {
    await expect(trace((t) => ({ y: x(t) }), { x: { dtype: 'bool' as never, shape: [1] } })).rejects.toThrow(
      ShapeError,
    );
  });

  it('one trace inside another', () => {
    const backend = traceBackend(traceBackendName(kernelTable));
    expect(() => backend.trace(() => backend.trace(() => 0))).toThrow(/inside another/);
    expect(backend.trace(() => 1)).toBe(1);
  });

  it('a tensor outside any trace', async () => {
    await tf.setBackend('peftjs-trace');
    try {
      expect(() => tf.scalar(1)).toThrow(/only works while a function is compiled/);
    } finally {
      await tf.setBackend('cpu');
    }
  });

  it("does not change the function's own errors", async () => {
    const error = new RangeError('mine');
    const fn = (): never => {
      throw error;
    };
    await expect(trace(fn, { x: matrix })).rejects.toBe(error);
    expect(tf.getBackend()).toBe('cpu');
  });
});

describe('around a trace', () => {
  it('no tensor leaks, and the backend stays the same', async () => {
    const before = tf.memory().numTensors;
    for (let round = 0; round < 5; round++) {
      await trace((t) => ({ y: tf.grad((a) => tf.sum(tf.softmax(a)))(x(t)) }), { x: matrix });
    }
    expect(tf.memory().numTensors).toBe(before);
    expect(tf.getBackend()).toBe('cpu');
  });

  it('concurrent traces do not interfere', async () => {
    const graphs = await Promise.all([1, 2, 3].map((k) => trace((t) => ({ y: tf.mul(x(t), k + 1) }), { x: matrix })));
    expect(graphs.map(({ constants }) => Number(constants[0]?.data[0]))).toEqual([2, 3, 4]);
  });

  it('a tensor from outside becomes a constant and does not change', async () => {
    const outside = tf.tensor([1, 2, 3]);
    const graph = await trace((t) => ({ y: tf.add(x(t), outside) }), { x: matrix });
    expect(Array.from(graph.constants[0]?.data ?? [], Number)).toEqual([1, 2, 3]);
    expect(Array.from(outside.dataSync())).toEqual([1, 2, 3]);
    outside.dispose();
  });

  it('numbers that the function creates can be read back', async () => {
    const graph = await trace(
      (t) => {
        const [size = 0] = tf.tensor1d([2], 'int32').dataSync();
        return { y: tf.topk(x(t), size).values };
      },
      { x: matrix },
    );
    expect(graph.outputs[0]?.shape).toEqual([2, 2]);
  });
});
