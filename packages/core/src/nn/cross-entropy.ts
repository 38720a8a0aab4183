import type { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { withGradient } from './custom.js';

/**
 * Returns -log softmax(logits)[label] of every row, in few passes over the logits, which for a large vocabulary are the
 * largest tensor of a step. First-order gradients only.
 *
 * @param logits `[rows, classes]`
 * @param labels int32 `[rows]`, each in [0, classes)
 * @returns `[rows]`
 */
export function softmaxCrossEntropy(logits: Tensor, labels: Tensor): Tensor {
  const [rows, classes] = logits.shape as [number, number];
  const surprise = (logits: Tensor): { value: Tensor; saved: [Tensor, Tensor, Tensor] } => {
    const shifted = tf.sub(logits, tf.max(logits, 1, true)); // [rows, classes]
    const weights = tf.exp(shifted);
    const total = tf.sum(weights, 1); // [rows]
    const places = tf.stack([tf.range(0, rows, 1, 'int32'), labels], 1); // [rows, 2]
    return { value: tf.sub(tf.log(total), tf.gatherND(shifted, places)), saved: [weights, total, labels] };
  };
  return withGradient([logits], surprise, (dy, saved) => gradient(dy, saved, classes));
}

/** dlogits = dy (softmax(logits) - onehot(label)) */
function gradient(dy: Tensor, [weights, total, labels]: [Tensor, Tensor, Tensor], classes: number): Tensor {
  const column = (x: Tensor): Tensor => tf.reshape(x, [-1, 1]); // [rows, 1]
  return tf.sub(tf.mul(weights, column(tf.div(dy, total))), tf.mul(oneHot(labels, classes), column(dy)));
}

/**
 * Returns 1 in the column of each row's label, else 0: int32 `[rows]` -> float32 `[rows, columns]`. tf.oneHot refuses a
 * single column, and on WASM writes integers into a float tensor.
 */
export function oneHot(labels: Tensor, columns: number): Tensor {
  return tf.cast(tf.equal(tf.expandDims(labels, 1), tf.range(0, columns, 1, 'int32')), 'float32');
}

/** A vocabulary whose logits are computed a block of words at a time. */
export interface WordBlocks {
  /** The number of words. */
  readonly words: number;
  /** The number of words in a block. */
  readonly size: number;
  /** Returns the logits of the words `from` to `to - 1`: states `[rows, width]` -> `[rows, to - from]`. */
  logits(states: Tensor, from: number, to: number): Tensor;
  /** Returns the logit of one word for each row: `[rows, width]`, int32 `[rows]` -> `[rows, 1]`. */
  logit(states: Tensor, words: Tensor): Tensor;
}

/**
 * `softmaxCrossEntropy` of the logits of `states`, which never exist whole: with z the logits, y the label and a
 * running maximum m, as in flash attention (Dao et al., 2022, arXiv 2205.14135, section 3.1),
 *
 * ```text
 * m = max_v z_v       t = sum of exp(z_v - m) over v other than y       e = exp(z_y - m)
 * loss = log(t + e) - (z_y - m)
 * dstates = (sum over v other than y of exp(z_v - m) dz_v - t dz_y) / (t + e)
 * ```
 *
 * The forward pass computes dstates too, so that no block is computed twice. First-order gradients of `states` only.
 *
 * @param states `[rows, width]`
 * @param labels int32 `[rows]`, each in [0, words)
 * @returns `[rows]`
 */
export function blockedCrossEntropy(states: Tensor, labels: Tensor, blocks: WordBlocks): Tensor {
  return withGradient(
    [states],
    (states) => {
      const { loss, gradient } = summedOverBlocks(states, labels, blocks);
      return { value: loss, saved: [gradient] as [Tensor] };
    },
    (dy, [gradient]) => tf.mul(gradient, tf.reshape(dy, [-1, 1])), // [rows, width] x [rows, 1]
  );
}

/** The loss of each row, `[rows]`, and its gradient with respect to the row's states, `[rows, width]`. */
function summedOverBlocks(
  states: Tensor,
  labels: Tensor,
  { words, size, logits, logit }: WordBlocks,
): Readonly<Record<'loss' | 'gradient', Tensor>> {
  const ofLabel = apart(() => logit(states, labels), states, tf.onesLike);
  let highest = ofLabel.value; // [rows, 1]
  let total: Tensor = tf.zerosLike(highest); // [rows, 1]
  let pull: Tensor = tf.zerosLike(states); // [rows, width]
  for (let from = 0; from < words; from += size) {
    const to = Math.min(from + size, words);
    const places = tf.sub(tf.reshape(labels, [-1, 1]), tf.scalar(from, 'int32')); // [rows, 1]
    const isOther = tf.cast(tf.notEqual(places, tf.range(0, to - from, 1, 'int32')), 'float32'); // [rows, to - from]
    const [before, rising] = [highest, (z: Tensor) => tf.maximum(before, tf.max(z, 1, true))];
    const weights = (z: Tensor): Tensor => tf.mul(tf.exp(tf.sub(z, rising(z))), isOther); // [rows, to - from]
    // Equal to the states, but a step has to end each block before the next: it would otherwise keep the logits of all.
    const own = from === 0 ? states : tf.add(states, tf.mul(pull, 0)); // [rows, width]
    const block = apart(() => logits(own, from, to), own, weights);
    highest = rising(block.value);
    const shrunk = tf.exp(tf.sub(before, highest)); // [rows, 1]
    total = tf.add(tf.mul(total, shrunk), tf.sum(weights(block.value), 1, true));
    pull = tf.add(tf.mul(pull, shrunk), block.gradient);
  }
  const own = tf.sub(ofLabel.value, highest); // [rows, 1]
  const sum = tf.add(total, tf.exp(own)); // [rows, 1]
  return {
    loss: tf.reshape(tf.sub(tf.log(sum), own), [-1]),
    gradient: tf.div(tf.sub(pull, tf.mul(ofLabel.gradient, total)), sum),
  };
}

/**
 * Computes a value, and the gradient with respect to `x` of its sum weighted by `weightsOf(value)`, weights taken as
 * constant. It is apart from the gradients that surround it: those neither record nor see it.
 */
function apart(
  valueOf: () => Tensor,
  x: Tensor,
  weightsOf: (value: Tensor) => Tensor,
): Readonly<Record<'value' | 'gradient', Tensor>> {
  const weighted = (): Tensor =>
    withGradient(
      [valueOf()],
      (value) => ({ value: tf.clone(value), saved: [value] as [Tensor] }),
      (_, [value]) => weightsOf(value),
    );
  const { state } = tf.engine();
  const { activeTape, gradientDepth, kernelDepth } = state;
  Object.assign(state, { gradientDepth: 0, kernelDepth: 0 });
  try {
    // `weighted` replaces the last argument, the gradient of the value, whose default would be as large as the value.
    const { value, grads } = tf.engine().gradients(weighted, [x], tf.scalar(1));
    return { value, gradient: grads[0] as Tensor };
  } finally {
    Object.assign(state, { activeTape, gradientDepth, kernelDepth });
  }
}
