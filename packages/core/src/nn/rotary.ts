import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { ShapeError } from '../errors.js';
import { withGradient } from './custom.js';
import { runFused } from './fused.js';

/** The angles of {@link rotary}. */
export interface RotaryOptions {
  /** Cosines of each position's angles, `[positions, size / 2]` for heads of `size` features. */
  readonly cos: Tensor;
  /** Sines of the same angles. */
  readonly sin: Tensor;
  /** The position of each token, int32 `[batch, tokens]`. Default: 0, 1, .. */
  readonly positions?: Tensor;
}

/**
 * Rotary position embedding (Su et al., 2021): in every head the pair (x_i, x_{i + size / 2}) is rotated by the i-th
 * angle of its position. One node in a compiled step. First-order gradients of x only.
 *
 * @param x `[batch, tokens, heads * size]`
 * @returns `[batch, tokens, heads * size]`
 * @throws ShapeError when the features do not divide into heads of that size.
 */
export function rotary(x: Tensor, { cos, sin, positions }: RotaryOptions): Tensor {
  const [half] = cos.shape.slice(1);
  if (x.rank !== 3 || half === undefined || (x.shape[2] as number) % (2 * half) !== 0) {
    throw new ShapeError(
      `rotary needs x [batch, tokens, heads * size] and angles [positions, size / 2], got [${x.shape.join(', ')}] and [${cos.shape.join(', ')}]`,
    );
  }
  const angles = positions === undefined ? [cos, sin] : [cos, sin, positions];
  return withGradient(
    [x],
    (x) => ({ value: turned(x, cos, sin, positions), saved: angles }),
    (dy, saved) => {
      const [cos, sin, positions] = saved as [Tensor, Tensor, Tensor?];
      return turned(dy, cos, tf.neg(sin), positions);
    },
  );
}

function turned(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | undefined): Tensor {
  const fused = runFused('PeftRotary', { x, cos, sin, ...(positions && { positions }) });
  if (fused) return fused;
  const [batch, tokens, features] = x.shape as [number, number, number];
  const half = cos.shape[1] as number;
  const at = (table: Tensor): Tensor => {
    const rows = positions ? tf.gather(table, positions) : tf.slice(table, [0, 0], [tokens, half]);
    return tf.reshape(rows, [-1, tokens, 1, half]); // [batch or 1, tokens, 1, size / 2]
  };
  const [c, s] = [at(cos), at(sin)];
  const heads = tf.reshape(x, [batch, tokens, features / (2 * half), 2 * half]); // [batch, tokens, heads, size]
  const [a, b] = tf.split(heads, 2, 3) as [Tensor, Tensor];
  const rotated = tf.concat([tf.sub(tf.mul(a, c), tf.mul(b, s)), tf.add(tf.mul(b, c), tf.mul(a, s))], 3);
  return tf.reshape(rotated, x.shape);
}
