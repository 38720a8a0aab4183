import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { AdapterLayers } from '../contracts/method.js';
import { dropout } from '../nn/dropout.js';
import type { Rng } from '../rng.js';
import { hostTensor, type HostTensors } from '../tensors.js';
import { tensorKey } from '../adapter/peft-model.js';

/*
 * Random numbers inside a compiled step, the same on every executor. A layer's numbers u [rows, columns] come from a few
 * integers c in [0, p) that the host draws at every step, in exact arithmetic of small integers:
 *
 *   a_i = P_i C mod p,  b_j = P_j C' mod p      C, C' [4, K] are the drawn ones, P_i = (1, i0, i0^2, i1) of i = i0 + p i1
 *   u_ij = (a_i . b_j mod p) / p
 *
 * No sum reaches 2^22, so float32 holds each of them exactly, in whatever order it is added up.
 */

/** p, a prime. Uniform numbers are its multiples of 1 / p. */
const MODULUS = 1021;
/** Coordinates of an index, and K. */
const DEGREE = 4;
const WIDTH = 4;

/** What the noise of a layer's name is called among the scalars of a step. */
export function noiseKey(name: string): string {
  return `noise.${name}`;
}

/** The integers of one step for every layer that asks for noise: `[2 * DEGREE, WIDTH]` by `noise.<path>.<name>`. */
export function drawNoise(layers: AdapterLayers, rng: Rng): HostTensors {
  const drawn: HostTensors = {};
  for (const layer of Object.values(layers)) {
    for (const name of layer.noise ?? []) {
      const key = tensorKey(layer, name);
      const stream = rng.fork(key);
      const integers = Float32Array.from({ length: 2 * DEGREE * WIDTH }, () => stream.integer(MODULUS));
      drawn[noiseKey(key)] = hostTensor(integers, [2 * DEGREE, WIDTH]);
    }
  }
  return drawn;
}

/** Inverted dropout of x `[rows, columns]` by drawn integers; the rate is rounded to a multiple of 1 / 1021. */
export function dropoutFrom(drawn: Tensor, x: Tensor, rate: number): Tensor {
  const [rows, columns] = x.shape as [number, number];
  return dropout(x, Math.round(rate * MODULUS) / MODULUS, uniform(drawn, rows, columns));
}

/** Uniform numbers in [0, 1), `[rows, columns]`. */
export function uniform(drawn: Tensor, rows: number, columns: number): Tensor {
  const a = modulo(tf.matMul(coordinates(rows), tf.slice(drawn, [0, 0], [DEGREE, WIDTH]))); // [rows, K]
  const b = modulo(tf.matMul(coordinates(columns), tf.slice(drawn, [DEGREE, 0], [DEGREE, WIDTH]))); // [columns, K]
  return tf.div(modulo(tf.matMul(a, b, false, true)), MODULUS); // [rows, columns]
}

/** P `[count, DEGREE]`, exact for a count of less than 2^22. */
function coordinates(count: number): Tensor {
  const index = tf.range(0, count, 1, 'float32');
  const high = quotient(index);
  const low = tf.sub(index, tf.mul(high, MODULUS));
  return tf.stack([tf.onesLike(low), low, modulo(tf.square(low)), modulo(high)], 1);
}

/** x mod p of whole numbers. */
function modulo(x: Tensor): Tensor {
  return tf.sub(x, tf.mul(quotient(x), MODULUS));
}

/** floor(x / p) of whole numbers; the half keeps a quotient just below a whole number from being rounded up to it. */
function quotient(x: Tensor): Tensor {
  return tf.floor(tf.div(tf.add(x, 0.5), MODULUS));
}
