import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';

/**
 * Computes a value with a given gradient, which has no gradient itself.
 * @param forward returns the value, and the tensors that the gradient reads
 * @param backward returns the gradient of each input, from that of the value
 */
export function withGradient<Inputs extends Tensor[], Saved extends Tensor[]>(
  inputs: Inputs,
  forward: (...inputs: Inputs) => { readonly value: Tensor; readonly saved: Saved },
  backward: (dy: Tensor, saved: Saved) => Tensor | Tensor[],
): Tensor {
  return tf.customGrad((...args) => {
    const { value, saved } = forward(...(args.slice(0, -1) as Inputs));
    (args.at(-1) as GradSaveFunc)(saved);
    return { value, gradFunc: (dy, saved) => backward(dy, saved as Saved) };
  })(...inputs);
}
