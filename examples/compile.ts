// Compiles your own function: least squares by gradient descent, with weight and momentum updated in one graph.
// #region compile
import type { Executor } from '@peftjs/core';
import { hostScalar, hostZeros, type HostTensor, type Tensors } from '@peftjs/core/method';
import type { PureFunction } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';

/** One optimization step as a pure function: named tensors in, named tensors out. */
const step: PureFunction = ({ x, y, weight, momentum, rate }: Tensors) => {
  const error = (w: Tensor): tf.Scalar => tf.mean(tf.squaredDifference(tf.matMul(x as Tensor, w), y as Tensor));
  const { value: loss, grads } = tf.valueAndGrads(error)([weight as Tensor]); // the backward pass becomes part of the graph
  const moved = tf.add(tf.mul(momentum as Tensor, 0.9), grads[0] as Tensor);
  return { loss, momentum: moved, weight: tf.sub(weight as Tensor, tf.mul(moved, rate as Tensor)) };
};

/** Fits a weight `[features, targets]` that maps x `[rows, features]` to y `[rows, targets]`. Returns it and the loss. */
export async function leastSquares(
  x: HostTensor,
  y: HostTensor,
  steps: number,
  executor: Executor = compiled(),
): Promise<{ weight: HostTensor; loss: number }> {
  const zeros = hostZeros([x.shape[1] as number, y.shape[1] as number]);
  const start = { x, y, weight: zeros, momentum: zeros, rate: hostScalar(0.05) };
  const fn = await executor.compile(step, start); // host tensors serve as input specs: they have shapes

  const given = Object.fromEntries(Object.entries(start).map(([name, tensor]) => [name, executor.upload(tensor)]));
  let { weight, momentum } = given;
  let loss: unknown;
  for (let count = 0; count < steps; count++) {
    const next = await fn.run({ ...given, weight, momentum }); // values stay on the executor's device
    for (const value of [weight, momentum, loss]) if (value !== undefined) executor.release(value);
    ({ weight, momentum, loss } = next);
  }
  const result = { weight: await executor.download(weight), loss: (await executor.download(loss)).data[0] as number };
  for (const value of [given.x, given.y, given.rate, weight, momentum, loss]) executor.release(value);
  await fn.dispose();
  return result;
}
// #endregion compile
