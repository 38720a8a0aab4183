import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { beforeAll, describe, expect, it } from 'vitest';
import { hostTensor } from '@peftjs/core';
import { EngineError, type HostTensors, type Tensors } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { functionGraph, oneFile } from '../src/export/export-onnx.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const inputs = {
  ids: { name: 'input_ids', dtype: 'int32' },
  mask: { name: 'attention_mask', dtype: 'float32' },
} as const;

const ids = ({ ids }: Tensors): Tensor => ids as Tensor;
const mask = ({ mask }: Tensors): Tensor => mask as Tensor;
const tokensOf = (x: Tensor): number => x.shape[1] as number;

async function exported(fn: PureFunction, weights: HostTensors = {}): Promise<Uint8Array> {
  return oneFile(await functionGraph({ fn, inputs, weights }));
}

/** The outputs of ONNX Runtime and of TensorFlow.js for the same ids and mask. */
async function both(fn: PureFunction, graph: Uint8Array, [batch, tokens]: [number, number], weights: HostTensors = {}) {
  const session = await ort.InferenceSession.create(graph, { logSeverityLevel: 4 });
  const places = Array.from({ length: batch * tokens }, (_, place) => place);
  const held = (values: readonly number[]) =>
    new ort.Tensor('int64', BigInt64Array.from(values, BigInt), [batch, tokens]);
  const [idValues, maskValues] = [places.map((place) => (5 * place) % 7), places.map((place) => Number(place % 3 > 0))];
  const feeds: Record<string, ort.Tensor> = { input_ids: held(idValues), attention_mask: held(maskValues) };
  const read = session.inputNames.map((name) => [name, feeds[name] as ort.Tensor] as const);
  const { y } = await session.run(Object.fromEntries(read));
  const expected = tf.tidy(() => {
    const constants = Object.entries(weights).map(([name, { data, shape }]) => [name, tf.tensor(data, [...shape])]);
    const batchTensors = {
      ids: tf.tensor(idValues, [batch, tokens], 'int32'),
      mask: tf.tensor(maskValues, [batch, tokens]),
    };
    const { y } = fn({ ...batchTensors, ...(Object.fromEntries(constants) as Tensors) });
    return { shape: (y as Tensor).shape, values: Array.from((y as Tensor).dataSync(), Math.fround) };
  });
  const found = y as ort.Tensor;
  return { found: { shape: [...found.dims], values: Array.from(found.data as Float32Array) }, expected };
}

const SHAPES: readonly [number, number][] = [
  [1, 1],
  [2, 1],
  [1, 2],
  [4, 9],
  [1, 20],
  [3, 200],
];

/** Pure functions with constants and shapes that depend on the sizes, each in another way. */
const functions: Readonly<Record<string, PureFunction>> = {
  'the same numbers for every size': (t) => ({ y: tf.add(tf.mul(mask(t), tf.scalar(3)), tf.scalar(-1)) }),
  'the beginning of a table': (t) => {
    const table = tf.tensor(Float32Array.from({ length: 200 }, (_, place) => place * place + 1));
    return { y: tf.add(mask(t), tf.slice(table, [0], [tokensOf(mask(t))])) };
  },
  'the end of a table': (t) => {
    const table = tf.tensor(Float32Array.from({ length: 200 }, (_, place) => (200 - place) ** 2));
    return { y: tf.add(mask(t), tf.slice(table, [200 - tokensOf(mask(t))], [-1])) };
  },
  'the middle of a table, equally far to both sides of its centre': (t) => {
    const tokens = tokensOf(mask(t));
    const cubes = tf.tensor(Float32Array.from({ length: 400 }, (_, place) => (place - 200) ** 3));
    return { y: tf.add(tf.concat([mask(t), mask(t)], 1), tf.slice(cubes, [200 - tokens], [2 * tokens])) };
  },
  'whole numbers along one axis': (t) => {
    const tokens = tokensOf(mask(t));
    const positions = Int32Array.from({ length: tokens }, (_, place) => 3 * place + tokens - 5);
    return { y: tf.add(mask(t), tf.cast(tf.tensor(positions, [1, tokens], 'int32'), 'float32')) };
  },
  'whole numbers along several axes: distances': (t) => {
    const tokens = tokensOf(mask(t));
    const values = Float32Array.from({ length: tokens * tokens }, (_, at) => Math.floor(at / tokens) - (at % tokens));
    return { y: tf.matMul(mask(t), tf.tensor(values, [tokens, tokens])) };
  },
  'the numbers of all tokens': (t) => {
    const { size, shape } = mask(t);
    return {
      y: tf.mul(
        mask(t),
        tf.tensor(
          Float32Array.from({ length: size }, (_, at) => at),
          shape,
        ),
      ),
    };
  },
  'a triangular mask': (t) => {
    const tokens = tokensOf(mask(t));
    const values = Float32Array.from({ length: tokens * tokens }, (_, at) =>
      at % tokens > Math.floor(at / tokens) ? -7 : 0,
    );
    return { y: tf.add(tf.reshape(mask(t), [-1, 1, tokens]), tf.tensor(values, [1, tokens, tokens])) };
  },
  'an identity': (t) => ({ y: tf.matMul(mask(t), tf.mul(tf.eye(tokensOf(mask(t))), 3)) }),
  'below and on a diagonal': (t) => {
    const tokens = tokensOf(mask(t));
    const values = Float32Array.from({ length: tokens * tokens }, (_, at) =>
      at % tokens > Math.floor(at / tokens) ? 0 : at % (tokens + 1) === 0 ? 2 : -1,
    );
    return { y: tf.matMul(mask(t), tf.tensor(values, [tokens, tokens])) };
  },
  'sizes as numbers': (t) => ({
    y: tf.add(tf.mul(mask(t), tokensOf(mask(t)) ** 2), tf.scalar(mask(t).shape[0] * tokensOf(mask(t)) - 4)),
  }),
  'sizes as integers': (t) => ({ y: tf.cast(tf.add(ids(t), tf.scalar(2 * tokensOf(ids(t)), 'int32')), 'float32') }),
  'shapes that depend on both sizes': (t) => {
    const [batch, tokens] = mask(t).shape as [number, number];
    const wide = tf.reshape(tf.concat([mask(t), tf.mul(mask(t), 2), mask(t)], 1), [batch, 3, tokens]);
    const turned = tf.reshape(tf.transpose(wide, [0, 2, 1]), [batch * tokens, 3]);
    return { y: tf.reshape(tf.slice(turned, [tokens - 1, 1], [(batch - 1) * tokens + 1, 2]), [2, -1]) };
  },
  'a value repeated to a shape': (t) => ({ y: tf.add(tf.zeros(mask(t).shape), tf.slice(mask(t), [0, 0], [-1, 1])) }),
};

describe('a function of a batch of any size', () => {
  it.each(Object.entries(functions))('with %s', async (_, fn) => {
    const graph = await exported(fn);
    for (const shape of SHAPES) {
      const { found, expected } = await both(fn, graph, shape);
      expect(found, shape.join(' x ')).toEqual(expected);
    }
  });

  it('stores the weights that it reads, and no others, under their names', async () => {
    const weights = {
      table: hostTensor(
        Float32Array.from({ length: 21 }, (_, at) => at),
        [7, 3],
      ),
      other: hostTensor(new Float32Array(9), [9]),
    };
    const fn: PureFunction = (t) => ({ y: tf.gather(t.table as Tensor, ids(t)) });
    const graph = await exported(fn, weights);
    const { found, expected } = await both(fn, graph, [2, 5], weights);
    expect(found).toEqual(expected);
    const text = new TextDecoder('latin1').decode(graph);
    expect(text).toContain('table');
    expect(text).not.toContain('other');
  });

  it('computes a triangular mask in the graph, and each size once', async () => {
    const graph = await exported(functions['a triangular mask'] as PureFunction);
    expect(graph.length).toBeLessThan(3000);
    const named = (op: string) => new TextDecoder('latin1').decode(graph).split(op).length - 1;
    expect(named('Shape')).toBeLessThanOrEqual(2 + named('Reshape'));
  });
});

describe('an export for any size names what it cannot write:', () => {
  const refused = async (fn: PureFunction, message: RegExp): Promise<void> => {
    await expect(exported(fn)).rejects.toThrow(EngineError);
    await expect(exported(fn)).rejects.toThrow(message);
  };

  it('a constant that follows no rule', () =>
    refused((t) => {
      const values = Float32Array.from({ length: tokensOf(mask(t)) }, (_, place) =>
        Math.sin(place / tokensOf(mask(t))),
      );
      return { y: tf.mul(mask(t), tf.tensor(values, [1, values.length])) };
    }, /how the float32 \[1, \d+\] depends on the sizes \(at node 'Mul'\)/));

  it('a number that is not a polynomial of the sizes', () =>
    refused(
      (t) => ({ y: tf.mul(mask(t), 1 / tokensOf(mask(t))) }),
      /float32 \[\] depends on the sizes \(at node 'Mul'\)/,
    ));

  it('operators that differ by size', async () => {
    const long = (t: Tensors): boolean => tokensOf(mask(t)) > 80;
    await refused((t) => ({ y: long(t) ? tf.exp(mask(t)) : tf.log(mask(t)) }), /from node 0 on \(at node/);
    await refused((t) => ({ y: long(t) ? tf.exp(tf.exp(mask(t))) : tf.exp(mask(t)) }), /from node 1 on|1 nodes/);
  });

  it('values that differ by size', () =>
    refused((t) => {
      const [a, b] = [tf.exp(mask(t)), tf.sin(mask(t))];
      return { y: tf.add(tf.add(a, b), tokensOf(mask(t)) > 80 ? a : b) };
    }, /other sizes use other values/));

  it('a function without inputs', () => refused(() => ({ y: tf.ones([2]) }), /reads none of its inputs/));

  it('more bytes than a file can hold', async () => {
    const weights = { large: hostTensor(new Float32Array(2 ** 29), [2 ** 29]) };
    await expect(exported((t) => ({ y: tf.mul(mask(t), t.large as Tensor) }), weights)).rejects.toThrow(
      /at most 2 GB.*2\.0 GB/,
    );
  });
});
