import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { tensorsAt, type Tensors } from '../tensors.js';

/** Returns how far the columns of A and the rows of B are from orthonormal: ||A^T A - I||^2 and ||B B^T - I||^2. */
export function orthonormalityErrors(p: Tensors): [ofA: Scalar, ofB: Scalar] {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  return [gramError(tf.matMul(loraA, loraA, true, false)), gramError(tf.matMul(loraB, loraB, false, true))]; // [r, r]
}

/** ||G - I||^2 */
function gramError(gram: Tensor): Scalar {
  return tf.sum(tf.square(tf.sub(gram, tf.eye(gram.shape[0]))));
}

/** A square root with a finite slope at zero, so that orthonormal factors do not give NaN. */
export function softSqrt(x: Tensor): Tensor {
  return tf.sqrt(tf.add(x, 1e-12));
}
