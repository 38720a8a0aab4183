import * as tf from '@tensorflow/tfjs-core';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { hostTensor } from '@peftjs/core';
import { createRng, EngineError, ShapeError, type HostTensor } from '@peftjs/core/method';
import { quantized, type QuantizedTensor } from '@peftjs/core/model';
import { dequantized, linear, quantizedLinear } from '@peftjs/core/nn';
import type { PureFunction } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/conformance';
import { compiled, eager } from '@peftjs/engine';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { exactBytes, isExact, asUnsigned } from '../src/compiled/runtime.js';
import type { ByteType } from '../src/compiled/runtime.js';
import { traceWith } from '../src/compiled/trace.js';

const [ROWS, IN, OUT] = [9, 70, 33];
const x = random([ROWS, IN], 1);
const dy = random([ROWS, OUT], 2);
const bias = random([OUT], 3);
const weight = quantized(random([IN, OUT], 4));

function random(shape: number[], seed: number): HostTensor {
  const rng = createRng(seed);
  return hostTensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => 3 * rng.normal()),
    shape,
  );
}

const specs = {
  x: { dtype: 'float32', shape: [ROWS, IN] },
  dy: { dtype: 'float32', shape: [ROWS, OUT] },
  bias: { dtype: 'float32', shape: [OUT] },
  values: { dtype: 'int8', shape: [IN, OUT] },
  scale: { dtype: 'float32', shape: [OUT] },
} as const;

/** The layer's output, its gradient with respect to x for an incoming dy, and the dequantized weight. */
const layer: PureFunction = (given) => {
  const { x, dy, bias, values, scale } = given as Record<keyof typeof specs, Tensor>;
  const forward = (at: Tensor): Tensor => quantizedLinear(at, { values, scale }, bias);
  return { y: forward(x), dx: tf.grad(forward)(x, dy), whole: dequantized({ values, scale }) };
};

async function runLayer(type: ByteType): Promise<Record<string, Float32Array>> {
  const graph = await traceWith({ table: kernelTable, bytes: type }, layer, specs);
  const session = await ort.InferenceSession.create(graph.bytes(), { logSeverityLevel: 4 });
  const bytes = type === 'int8' ? weight.values : asUnsigned(weight.values);
  const given = {
    x: new ort.Tensor('float32', x.data as Float32Array, x.shape),
    dy: new ort.Tensor('float32', dy.data as Float32Array, dy.shape),
    bias: new ort.Tensor('float32', bias.data as Float32Array, bias.shape),
    values: new ort.Tensor(type, bytes, weight.shape),
    scale: new ort.Tensor('float32', weight.scale, [OUT]),
  };
  const results = await session.run(Object.fromEntries(graph.inputs.map(({ key, name }) => [name, given[key as 'x']])));
  await session.release();
  return Object.fromEntries(graph.outputs.map(({ key, name }) => [key, results[name]?.data as Float32Array]));
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

function byteAt({ values }: QuantizedTensor, inner: number, column: number): number {
  return values[inner * OUT + column] as number;
}

const products = await Promise.all(
  (['int8', 'uint8'] as const).map(async (type) => {
    const isThere = await isExact(ort, type);
    return { type, isThere, shown: isThere ? type : `${type} (not exact on this processor, so not chosen)` };
  }),
);

describe.each(products)('a product with an 8-bit weight, multiplied as $shown', ({ type, isThere }) => {
  it.skipIf(!isThere)('equals the exact integer product of the rows rounded to 8 bits', async () => {
    const { y } = await runLayer(type);
    const product = expectedProduct(x, (place, column) => byteAt(weight, place, column), OUT);
    const expected = product.map(
      (sum, at) => sum * (weight.scale[at % OUT] as number) + (bias.data[at % OUT] as number),
    );
    expect(relativeDistance(y ?? [], expected)).toBeLessThan(2e-3); // a value halfway between two steps may round either way
  });

  it.skipIf(!isThere)('has the gradient of the transposed weight, with rounded rows, too', async () => {
    const { dx } = await runLayer(type);
    const scaled = dy.data.map((value, at) => value * (weight.scale[at % OUT] as number)) as Float32Array;
    const rows = hostTensor(scaled, [ROWS, OUT]);
    const expected = expectedProduct(rows, (place, column) => byteAt(weight, column, place), IN);
    expect(relativeDistance(dx ?? [], expected)).toBeLessThan(2e-3);
  });

  it.skipIf(!isThere)('is close to the product of floats', async () => {
    const { y, dx, whole } = await runLayer(type);
    expect(relativeDistance(whole ?? [], weight.data)).toBeLessThan(1e-6);
    const [exact, gradient] = tf.tidy(() => {
      const tensor = ({ data, shape }: HostTensor): Tensor2D => tf.tensor(data, shape as [number, number]);
      const forward = (at: Tensor): Tensor => linear(at, tensor(weight), tf.tensor(bias.data));
      return [forward(tensor(x)).dataSync(), tf.grad(forward)(tensor(x), tensor(dy)).dataSync()] as const;
    });
    expect(relativeDistance(y ?? [], exact)).toBeLessThan(0.01);
    expect(relativeDistance(dx ?? [], gradient)).toBeLessThan(0.01);
  });
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
    const value = executor.uploadBytes?.({ dtype: 'int8', shape: weight.shape, data: weight.values });
    expect(value).toMatchObject({ data: weight.values, type: 'int8' });
  });

  it('only lets products read them', async () => {
    const reads = executor.compile(({ values }) => ({ y: tf.mul(values as Tensor, 2) }), { values: specs.values });
    await expect(reads).rejects.toThrow(EngineError);
    await expect(reads).rejects.toThrow(/a weight in 8 bits \(asked for by tf\.mul/);
  });

  it('is neither the eager one nor one on a device', async () => {
    const wasm = await eager({ backend: 'wasm' });
    expect(wasm.uploadBytes).toBeUndefined();
    await expect(wasm.compile(layer, specs)).rejects.toThrow(ShapeError);
    expect(compiled({ executionProviders: ['webgpu'] }).uploadBytes).toBeUndefined();
  });
});
