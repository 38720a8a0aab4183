import * as tf from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';
import { hostTensor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { min } from 'simple-statistics';

const [ROWS, INNER, COLUMNS] = [1024, 384, 1536];
const REPEATS = 30;

/** The best rate of a float32 matrix product [1024, 384] x [384, 1536] on this machine, in GFLOP/s. */
export async function peakGflops(threads: number): Promise<number> {
  const executor = compiled({ threads });
  const specs = {
    a: { dtype: 'float32', shape: [ROWS, INNER] },
    b: { dtype: 'float32', shape: [INNER, COLUMNS] },
  } as const;
  const product = await executor.compile(({ a, b }) => ({ c: tf.matMul(a as Tensor2D, b as Tensor2D) }), specs);
  const filled = (shape: number[]) =>
    executor.upload(hostTensor(new Float32Array(shape.reduce((x, y) => x * y)).fill(0.5), shape));
  const inputs = { a: filled([ROWS, INNER]), b: filled([INNER, COLUMNS]) };
  const times: number[] = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const started = performance.now();
    await product.run(inputs);
    times.push(performance.now() - started);
  }
  await product.dispose();
  return (2 * ROWS * INNER * COLUMNS) / min(times) / 1e6;
}
