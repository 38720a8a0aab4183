import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { runFused } from './fused.js';

/** The sigmoid linear unit, x sigma(x). One node in a compiled step. First-order gradients only. */
export function silu(x: Tensor): Tensor {
  return tf.customGrad((...args) => {
    const [x, save] = args as [Tensor, GradSaveFunc];
    const y = runFused('PeftSilu', { x }) ?? tf.mul(x, tf.sigmoid(x));
    save([x]);
    return { value: y, gradFunc: (dy, saved) => gradient(dy, saved[0] as Tensor) };
  })(x);
}

/** dx = dy sigma(x) (1 + x (1 - sigma(x))) */
function gradient(dy: Tensor, x: Tensor): Tensor {
  const open = tf.sigmoid(x);
  return tf.mul(dy, tf.mul(open, tf.add(tf.mul(x, tf.sub(1, open)), 1)));
}
