import * as tf from '@tensorflow/tfjs-core';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { hostTensor } from '@peftjs/core';
import { transposed } from '@peftjs/core/linalg';
import { createRng, EngineError, hostIntegers, mapValues, ShapeError, type HostTensor } from '@peftjs/core/method';
import { quantized, rowOf, type ByteType, type HostBytes, type QuantizedTensor } from '@peftjs/core/model';
import { dequantized, linear, quantizedEmbedding, quantizedLinear, type QuantizedWeight } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { exactBytes, isExact, asUnsigned } from '../src/compiled/runtime.js';
import { traceWith } from '../src/compiled/trace.js';

const [ROWS, IN, OUT] = [9, 96, 33];
const x = random([ROWS, IN], 1);
const dy = random([ROWS, OUT], 2);
const bias = random([OUT], 3);
const ids = hostIntegers(Int32Array.of(32, 0, 7, 7), [2, 2]);

function random(shape: number[], seed: number): HostTensor {
  const rng = createRng(seed);
  return hostTensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => 3 * rng.normal()),
    shape,
  );
}

/** The forms of a weight. A table multiplies as the matrix of its rows' outputs. */
const weights = {
  'an 8-bit weight': quantized(random([IN, OUT], 4)),
  'a 4-bit weight': quantized(random([IN, OUT], 4), 'q4'),
  'a table in 8 bits': quantized(random([OUT, IN], 4), 'q8 rows'),
};

/** The layer's output, its gradient with respect to x for an incoming dy, and the dequantized weight. */
const layer: PureFunction = ({ x, dy, bias, ...weight }) => {
  const held = weight as unknown as QuantizedWeight;
  const forward = (at: Tensor): Tensor => quantizedLinear(at, held, bias);
  return { y: forward(x as Tensor), dx: tf.grad(forward)(x as Tensor, dy), whole: dequantized(held) };
};

/** Runs a function of tensors and the parts of a weight, whose bytes are multiplied as `type`. */
async function run(
  type: ByteType,
  fn: PureFunction,
  tensors: Readonly<Record<string, HostTensor>>,
  { parts }: QuantizedTensor,
): Promise<Record<string, Float32Array>> {
  const given: Record<string, HostTensor | HostBytes> = { ...tensors, ...parts };
  const specs = Object.fromEntries(Object.entries(given).map(([key, { dtype, shape }]) => [key, { dtype, shape }]));
  const graph = await traceWith({ table: kernelTable, bytes: type }, fn, specs);
  const session = await ort.InferenceSession.create(graph.bytes(), { logSeverityLevel: 4 });
  const feeds = graph.inputs.map(({ key, name, dtype }) => {
    const { data, shape } = given[key] as HostTensor | HostBytes;
    const isRaised = data instanceof Int8Array && dtype === 'uint8';
    return [name, new ort.Tensor(dtype as 'uint8', (isRaised ? asUnsigned(data) : data) as Uint8Array, shape)] as const;
  });
  const results = await session.run(Object.fromEntries(feeds));
  await session.release();
  return Object.fromEntries(graph.outputs.map(({ key, name }) => [key, results[name]?.data as Float32Array]));
}

/** The numbers of a weight as `[in, out]`. */
function matrixOf(weight: QuantizedTensor): HostTensor {
  return weight.shape[0] === IN ? weight : transposed(weight);
}

/** The scale of each output's bytes. */
function stepsOf({ parts: { scale, step } }: QuantizedTensor): HostTensor['data'] {
  return (step ?? scale).data;
}

/** The formula in double precision: each row rounded with its own largest value as the scale, times the bytes. */
function expectedProduct(rows: HostTensor, at: (inner: number, column: number) => number, columns: number): number[] {
  const inner = rows.shape[1] as number;
  return Array.from({ length: ROWS * columns }, (_, element) => {
    const [row, column] = [Math.floor(element / columns), element % columns];
    const own = rows.data.subarray(row * inner, (row + 1) * inner);
    const step = Math.max(...[...own].map(Math.abs)) / 127;
    return [...own].reduce((sum, value, place) => sum + Math.round(value / step) * step * at(place, column), 0);
  });
}

/** The bytes of a weight, `[in, out]`: its numbers rounded to the steps of its outputs. */
function bytesOf(weight: QuantizedTensor): (inner: number, column: number) => number {
  const [numbers, steps] = [matrixOf(weight).data, stepsOf(weight)];
  return (inner, column) => Math.round((numbers[inner * OUT + column] as number) / (steps[column] as number));
}

const products = await Promise.all(
  (['int8', 'uint8'] as const).map(async (type) => {
    const isThere = await isExact(ort, type);
    return { type, isThere, shown: isThere ? type : `${type} (not exact on this processor, so not chosen)` };
  }),
);

const cases = products.flatMap((product) =>
  Object.entries(weights).map(([of, weight]) => ({ ...product, of, weight, byteAt: bytesOf(weight) })),
);

describe.each(cases)('a product with $of, multiplied as $shown', ({ type, isThere, weight, byteAt }) => {
  it.skipIf(!isThere)('equals the exact integer product of the rows rounded to 8 bits', async () => {
    const { y } = await run(type, layer, { x, dy, bias }, weight);
    const expected = expectedProduct(x, byteAt, OUT).map(
      (sum, at) => sum * (stepsOf(weight)[at % OUT] as number) + (bias.data[at % OUT] as number),
    );
    expect(relativeDistance(y ?? [], expected)).toBeLessThan(2e-3); // a value halfway between two steps may round either way
  });

  it.skipIf(!isThere)('has the gradient of the transposed weight, with rounded rows, too', async () => {
    const { dx } = await run(type, layer, { x, dy, bias }, weight);
    const scaled = dy.data.map((value, at) => value * (stepsOf(weight)[at % OUT] as number)) as Float32Array;
    const rows = hostTensor(scaled, [ROWS, OUT]);
    const expected = expectedProduct(rows, (place, column) => byteAt(column, place), IN);
    expect(relativeDistance(dx ?? [], expected)).toBeLessThan(2e-3);
  });

  it.skipIf(!isThere)('is close to the product of floats', async () => {
    const { y, dx, whole } = await run(type, layer, { x, dy, bias }, weight);
    expect(relativeDistance(whole ?? [], weight.data)).toBeLessThan(1e-6);
    const [exact, gradient] = tf.tidy(() => {
      const tensor = ({ data, shape }: HostTensor): Tensor2D => tf.tensor(data, shape as [number, number]);
      const forward = (at: Tensor): Tensor => linear(at, tensor(matrixOf(weight)), tf.tensor(bias.data));
      return [forward(tensor(x)).dataSync(), tf.grad(forward)(tensor(x), tensor(dy)).dataSync()] as const;
    });
    expect(relativeDistance(y ?? [], exact)).toBeLessThan(0.015);
    expect(relativeDistance(dx ?? [], gradient)).toBeLessThan(0.015);
  });
});

it.each(products)('looks up rows of a table in 8 bits, which are $shown', async ({ type }) => {
  const table = weights['a table in 8 bits'];
  const { rows } = await run(
    type,
    ({ ids, ...held }) => ({ rows: quantizedEmbedding(held as unknown as QuantizedWeight, ids as Tensor) }),
    { ids },
    table,
  );
  expect([...(rows ?? [])]).toEqual([...ids.data].flatMap((id) => [...rowOf(table, id)]));
});

it.each(Object.entries(weights))('computes with %s from plain ops where there are no kernels', (_, weight) => {
  tf.tidy(() => {
    const held = mapValues(
      weight.parts as unknown as Record<string, HostTensor | HostBytes>,
      ({ data, shape, dtype }) => tf.tensor(Array.from(data), [...shape], dtype === 'float32' ? 'float32' : 'int32'),
    ) as unknown as QuantizedWeight;
    expect(relativeDistance(dequantized(held).dataSync(), weight.data)).toBeLessThan(1e-6);
    const [given, gradient] = [tf.tensor(x.data, [ROWS, IN]), tf.tensor(dy.data, [ROWS, OUT])];
    const expected = tf.tensor(matrixOf(weight).data, [IN, OUT]);
    const dx = tf.grad((at) => quantizedLinear(at, held))(given, gradient);
    expect(relativeDistance(dx.dataSync(), tf.matMul(gradient, expected, false, true).dataSync())).toBeLessThan(1e-5);
  });
});

it('expands a 4-bit weight again in the backward pass: a shared node would keep its bytes in memory', async () => {
  const specs = mapValues({ x, dy, bias, ...weights['a 4-bit weight'].parts }, ({ dtype, shape }) => ({
    dtype,
    shape,
  }));
  const train: PureFunction = (given) => {
    const { y, dx } = layer(given);
    return { y: y as Tensor, dx: dx as Tensor };
  };
  const { nodes } = await traceWith({ table: kernelTable, bytes: 'int8' }, train, specs);
  const count = (op: string): number => nodes.filter((node) => node.op === op).length;
  expect([count('Concat'), count('DequantizeLinear')]).toEqual([2, 2]);
});

describe('integer products of ONNX Runtime', () => {
  it('are exact in the chosen type', async () => {
    expect(await isExact(ort, await exactBytes(ort))).toBe(true);
    expect(await isExact(ort, 'uint8')).toBe(true);
  });
});

describe('an executor that accepts bytes', () => {
  const executor = compiled({ threads: 1 });

  it('holds them by reference, at a quarter of the size', () => {
    const { values } = weights['an 8-bit weight'].parts;
    expect(executor.uploadBytes?.(values)).toMatchObject({ data: values.data, type: 'int8' });
  });

  it('only lets products read them', async () => {
    const reads = executor.compile(({ values }) => ({ y: tf.mul(values as Tensor, 2) }), {
      values: { dtype: 'int8', shape: [IN, OUT] },
    });
    await expect(reads).rejects.toThrow(EngineError);
    await expect(reads).rejects.toThrow(/a weight in 8 or 4 bits \(asked for by tf\.mul/);
  });

  it('is neither the eager one nor one on a device', async () => {
    const wasm = await eager({ backend: 'wasm' });
    expect(wasm.uploadBytes).toBeUndefined();
    await expect(wasm.compile((given) => given, { values: { dtype: 'uint8', shape: [1] } })).rejects.toThrow(
      ShapeError,
    );
    expect(compiled({ executionProviders: ['webgpu'] }).uploadBytes).toBeUndefined();
  });
});
