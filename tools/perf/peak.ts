import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { hostTensor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor2D } from '@tensorflow/tfjs-core';
import * as ort from 'onnxruntime-node';
import { max, min } from 'simple-statistics';

/** Rows, inner size and columns of the measured products: those of a step's modules, and a square one. */
const SHAPES = [
  [1024, 384, 1536],
  [1024, 1536, 384],
  [1024, 1024, 1024],
] as const;
type Shape = (typeof SHAPES)[number];
const REPEATS = 40;

/** The machine's best rates of matrix products over the measured shapes. */
export interface Peak {
  /** Rate in float32, in GFLOP/s. */
  readonly fp32Gflops: number;
  /** Rate of uint8 by int8 into int32, in GOP/s. */
  readonly int8Gops: number;
}

/** Measures both rates. */
export async function measurePeak(threads: number): Promise<Peak> {
  const best = async (rate: (shape: Shape, threads: number) => Promise<number>): Promise<number> => {
    const rates: number[] = [];
    for (const shape of SHAPES) rates.push(await rate(shape, threads));
    return max(rates);
  };
  return { fp32Gflops: await best(floatRate), int8Gops: await best(integerRate) };
}

async function floatRate([rows, inner, columns]: Shape, threads: number): Promise<number> {
  const executor = compiled({ threads });
  const specs = {
    a: { dtype: 'float32', shape: [rows, inner] },
    b: { dtype: 'float32', shape: [inner, columns] },
  } as const;
  const product = await executor.compile(({ a, b }) => ({ c: tf.matMul(a as Tensor2D, b as Tensor2D) }), specs);
  const filled = (height: number, width: number) =>
    executor.upload(hostTensor(new Float32Array(height * width).fill(0.5), [height, width]));
  const inputs = { a: filled(rows, inner), b: filled(inner, columns) };
  const seconds = await bestSeconds(async () => {
    const { c } = await product.run(inputs);
    if (c) executor.release(c);
  });
  await product.dispose();
  return (2 * rows * inner * columns) / seconds / 1e9;
}

async function integerRate([rows, inner, columns]: Shape, threads: number): Promise<number> {
  const model = integerProductModel(rows, inner, columns);
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads });
  const feeds = {
    a: new ort.Tensor('uint8', new Uint8Array(rows * inner).fill(3), [rows, inner]),
    b: new ort.Tensor('int8', new Int8Array(inner * columns).fill(5), [inner, columns]),
  };
  const seconds = await bestSeconds(() => session.run(feeds));
  await session.release();
  return (2 * rows * inner * columns) / seconds / 1e9;
}

async function bestSeconds(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const started = performance.now();
    await run();
    times.push((performance.now() - started) / 1000);
  }
  return min(times);
}

/** Formats both rates of a machine. */
export function peakText({ fp32Gflops, int8Gops }: Peak): string {
  return `${fp32Gflops.toFixed(0)} GFLOP/s in float32, ${int8Gops.toFixed(0)} GOP/s in 8 bits`;
}

/* Just enough of ONNX's protobuf (onnx.proto3, IR version 9) for one node: Y = MatMulInteger(A, B). */

const ELEMENT = { uint8: 2, int8: 3, int32: 6 } as const;

/** Returns an ONNX model that multiplies uint8 [rows, inner] by int8 [inner, columns] into int32. */
function integerProductModel(rows: number, inner: number, columns: number): Uint8Array {
  const node = message((at) => {
    for (const input of ['a', 'b']) text(at, 1, input);
    text(at, 2, 'y');
    text(at, 4, 'MatMulInteger');
  });
  const graph = message((at) => {
    bytes(at, 1, node);
    text(at, 2, 'product');
    bytes(at, 11, valueInfo('a', ELEMENT.uint8, [rows, inner]));
    bytes(at, 11, valueInfo('b', ELEMENT.int8, [inner, columns]));
    bytes(at, 12, valueInfo('y', ELEMENT.int32, [rows, columns]));
  });
  return message((at) => {
    number(at, 1, 9);
    bytes(at, 7, graph);
    bytes(
      at,
      8,
      message((opset) => number(opset, 2, 20)),
    );
  });
}

function valueInfo(name: string, element: number, shape: readonly number[]): Uint8Array {
  const dimension = (size: number): Uint8Array => message((at) => number(at, 1, size));
  const shapeMessage = message((at) => {
    for (const size of shape) bytes(at, 1, dimension(size));
  });
  const tensorType = message((at) => {
    number(at, 1, element);
    bytes(at, 2, shapeMessage);
  });
  return message((at) => {
    text(at, 1, name);
    bytes(
      at,
      2,
      message((type) => bytes(type, 1, tensorType)),
    );
  });
}

function message(write: (at: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

function number(at: BinaryWriter, field: number, value: number): void {
  at.tag(field, WireType.Varint).int64(value);
}

function text(at: BinaryWriter, field: number, value: string): void {
  at.tag(field, WireType.LengthDelimited).string(value);
}

function bytes(at: BinaryWriter, field: number, value: Uint8Array): void {
  at.tag(field, WireType.LengthDelimited).bytes(value);
}
