import * as tf from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';
import { hostTensor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import * as ort from 'onnxruntime-node';
import { min } from 'simple-statistics';
import { integerProductModel } from './integer-product.js';

const [ROWS, INNER, COLUMNS] = [1024, 384, 1536];
const OPERATIONS = 2 * ROWS * INNER * COLUMNS;
const REPEATS = 30;

/** The best rates of a product [1024, 384] x [384, 1536] on this machine. */
export interface Peak {
  readonly fp32Gflops: number;
  /** uint8 by int8, into int32. */
  readonly int8Gops: number;
}

/** Measures both rates. */
export async function measurePeak(threads: number): Promise<Peak> {
  return { fp32Gflops: await floatRate(threads), int8Gops: await integerRate(threads) };
}

async function floatRate(threads: number): Promise<number> {
  const executor = compiled({ threads });
  const specs = {
    a: { dtype: 'float32', shape: [ROWS, INNER] },
    b: { dtype: 'float32', shape: [INNER, COLUMNS] },
  } as const;
  const product = await executor.compile(({ a, b }) => ({ c: tf.matMul(a as Tensor2D, b as Tensor2D) }), specs);
  const filled = (rows: number, columns: number) =>
    executor.upload(hostTensor(new Float32Array(rows * columns).fill(0.5), [rows, columns]));
  const inputs = { a: filled(ROWS, INNER), b: filled(INNER, COLUMNS) };
  const rate = await bestRate(() => product.run(inputs));
  await product.dispose();
  return rate;
}

async function integerRate(threads: number): Promise<number> {
  const model = integerProductModel(ROWS, INNER, COLUMNS);
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: threads });
  const feeds = {
    a: new ort.Tensor('uint8', new Uint8Array(ROWS * INNER).fill(3), [ROWS, INNER]),
    b: new ort.Tensor('int8', new Int8Array(INNER * COLUMNS).fill(5), [INNER, COLUMNS]),
  };
  const rate = await bestRate(() => session.run(feeds));
  await session.release();
  return rate;
}

/** Operations in a nanosecond, at best. */
async function bestRate(run: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const started = performance.now();
    await run();
    times.push(performance.now() - started);
  }
  return OPERATIONS / min(times) / 1e6;
}
