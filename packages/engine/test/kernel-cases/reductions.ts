import * as tf from '@tensorflow/tfjs-core';
import { integers } from '../cases.js';
import { get, of } from './case.js';
import type { Case } from './case.js';

/** Kernels that reduce or scan along axes. */
export const reductions: Readonly<Record<string, Case>> = {
  // reductions
  Sum: of([2, 3, 4], (x) => [tf.sum(x), tf.sum(x, 1), tf.sum(x, [0, -1], true), tf.sum(x, []), tf.sum(tf.sum(x))]),
  'Sum of bools': of([2, 3], (x) => tf.sum(tf.greater(x, 0), 0), false),
  'Sum of a broadcast': of([2, 1], (x) => [
    tf.sum(tf.broadcastTo(x, [2, 3]), 0),
    tf.sum(tf.broadcastTo(x, [4, 2, 3]), [0, 2]),
  ]),
  Mean: of([2, 3, 4], (x) => [tf.mean(x), tf.mean(x, -1, true), tf.mean(x, [0, 1])]),
  'Mean of integers': { inputs: { x: integers([2, 3], 0, 9) }, fn: (t) => ({ y: tf.mean(get(t, 'x'), 1) }) },
  'Prod, Cumprod': of([2, 3], (x) => [tf.prod(x), tf.prod(x, 1, true)], true, 1e-4),
  Cumprod: of(
    [2, 4, 3],
    (x) => [tf.cumprod(x, 1), tf.cumprod(x, 1, true), tf.cumprod(x, 2, false, true), tf.cumprod(x, 0, true, true)],
    false,
  ),
  Cumsum: of(
    [2, 4, 3],
    (x) => [tf.cumsum(x, 1), tf.cumsum(x, 1, true), tf.cumsum(x, 2, false, true), tf.cumsum(x, 0, true, true)],
    false,
  ),
  'Cumsum of the last axis': of([2, 3], (x) => [tf.cumsum(x, 1), tf.cumsum(x, 1, true), tf.cumsum(x, 1, false, true)]),
  Max: of([2, 3, 4], (x) => [tf.max(x), tf.max(x, 1), tf.max(x, [0, 2], true)]),
  Min: of([2, 3, 4], (x) => [tf.min(x), tf.min(x, 1), tf.min(x, [0, 2], true)]),
  'Max with ties': of([2, 3], (x) => tf.max(tf.clipByValue(x, -1, 0), 1)),
  'All, Any': of(
    [2, 3],
    (x) => [tf.all(tf.greater(x, -1), 1), tf.any(tf.greater(x, 1), 0, true), tf.any(tf.greater(x, 3))],
    false,
  ),
  'ArgMax, ArgMin': of([2, 3, 4], (x) => [tf.argMax(x, 1), tf.argMin(x, -1), tf.argMax(x)], false),
  TopK: of(
    [3, 5],
    (x) => {
      const { values, indices } = tf.topk(x, 2);
      return [values, indices];
    },
    false,
  ),
  Softmax: of([2, 3, 4], (x) => [tf.softmax(x), tf.softmax(tf.reshape(x, [6, 4]))]),
  logSoftmax: of([3, 4], (x) => tf.logSoftmax(x)),
  logSumExp: of([3, 4], (x) => [tf.logSumExp(x, 1), tf.logSumExp(x)]),
  norm: of([3, 4], (x) => [tf.norm(x), tf.norm(x, 1, 0), tf.norm(x, 'fro', [0, 1])]),
};
