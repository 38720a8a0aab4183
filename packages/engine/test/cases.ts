import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Executor } from '@peftjs/core';
import { createRng, sizeOf, type HostTensor, type HostTensors, type Tensors } from '@peftjs/core/method';
import type { CompiledFunction, PureFunction } from '@peftjs/core/runtime';

/** Random floats in [low, high). */
export function floats(shape: readonly number[], low = -2, high = 2, seed = 1): HostTensor {
  const rng = createRng(seed).fork(shape.join('x'));
  return {
    dtype: 'float32',
    shape,
    data: Float32Array.from({ length: sizeOf(shape) }, () => low + (high - low) * rng.uniform()),
  };
}

/** Random integers in [low, high). */
export function integers(shape: readonly number[], low: number, high: number, seed = 1): HostTensor {
  const rng = createRng(seed).fork(shape.join('x'));
  return {
    dtype: 'int32',
    shape,
    data: Int32Array.from({ length: sizeOf(shape) }, () => low + rng.integer(high - low)),
  };
}

/** Uploads the inputs, compiles and runs a function once, and downloads the outputs. */
export async function runOnce<V>(executor: Executor<V>, fn: PureFunction, inputs: HostTensors): Promise<HostTensors> {
  const compiled = await executor.compile(fn, inputs);
  const results = await runWith(executor, compiled, inputs);
  await compiled.dispose();
  return results;
}

/** Uploads the inputs, runs a compiled function once, and downloads the outputs. */
export async function runWith<V>(
  executor: Executor<V>,
  compiled: CompiledFunction<V>,
  inputs: HostTensors,
): Promise<HostTensors> {
  const values = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, executor.upload(tensor)]));
  const outputs = await compiled.run(values);
  const results: Record<string, HostTensor> = {};
  for (const [name, value] of Object.entries(outputs)) {
    results[name] = await executor.download(value);
    executor.release(value);
  }
  for (const value of Object.values(values)) executor.release(value);
  return results;
}

/** Adds to the function's outputs the gradients of a weighted sum of its float outputs. */
export function withGradients(fn: PureFunction, names: readonly string[]): PureFunction {
  return (inputs) => {
    const loss = (...values: Tensor[]): Tensor => {
      const outputs = fn({
        ...inputs,
        ...Object.fromEntries(names.map((name, index) => [name, values[index] as Tensor])),
      });
      return total(Object.values(outputs).filter(({ dtype }) => dtype === 'float32'));
    };
    const { grads } = tf.valueAndGrads(loss)(names.map((name) => inputs[name] as Tensor));
    const gradients: Tensors = Object.fromEntries(
      names.map((name, index) => [`gradient of ${name}`, grads[index] as Tensor]),
    );
    return { ...fn(inputs), ...gradients };
  };
}

/** The weights differ, so that no symmetry hides a mistake. */
function total(outputs: readonly Tensor[]): Tensor {
  return outputs.reduce<Tensor>((sum, output) => {
    const weights = Float32Array.from({ length: output.size }, (_, index) => Math.sin(index + 1));
    return tf.add(sum, tf.sum(tf.mul(output, tf.tensor(weights, output.shape))));
  }, tf.scalar(0));
}

/**
 * ||a - b|| / ||b||, without elements where both have the same non-finite number; Infinity when shapes or types differ.
 */
export function distance(a: HostTensor | undefined, b: HostTensor): number {
  if (a?.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return Infinity;
  let difference = 0;
  let norm = 0;
  for (const [index, expected] of b.data.entries()) {
    const got = a.data[index] as number;
    if (Object.is(got, expected) || got === expected) {
      norm += Number.isFinite(expected) ? expected ** 2 : 0;
      continue;
    }
    difference += (got - expected) ** 2;
    norm += expected ** 2;
  }
  return Math.sqrt(difference) / Math.max(Math.sqrt(norm), 1e-6);
}
