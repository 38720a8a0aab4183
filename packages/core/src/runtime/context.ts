import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { AdapterLayers, StepContext } from '../contracts/layer.js';
import type { Model } from '../contracts/model.js';
import { TrainingError } from '../errors.js';
import { dropout } from '../nn/dropout.js';
import type { Rng } from '../rng.js';
import { hostTensor, tensorAt, type HostTensors, type Tensors } from '../tensors.js';
import { tensorKey } from '../adapter/peft-model.js';

/**
 * Makes the context in which layers run.
 * @param scalars the controller's scalars by name, dropout's integers, and the row masks of a mixed batch by `rowsKey`
 * @param layers number of the adapter's own layers
 * @param training whether dropout is on
 * @param networkDropout the rates of the frozen network's own dropout
 */
export function stepContext(
  scalars: Tensors,
  layers: number,
  training: boolean,
  networkDropout: StepContext['networkDropout'] = {},
): StepContext {
  return {
    training,
    layers,
    networkDropout,
    dropout(name, x, rate) {
      if (!training || rate === 0) return x;
      return dropoutFrom(tensorAt(scalars, noiseKey(name)), x, rate);
    },
    scalar(name) {
      const value = scalars[name];
      if (!value) throw new TrainingError(`a layer needs the scalar '${name}', which no controller provides`, name);
      return value as Scalar;
    },
    rowsOf: (adapter) => tensorAt(scalars, rowsKey(adapter)),
  };
}

/** Returns the name, among a step's scalars, of the mask of an adapter's rows in a mixed batch. */
export function rowsKey(adapter: string): string {
  return `rows.${adapter}`;
}

/*
 * Random numbers inside a compiled step, the same on every executor. A layer's numbers u [rows, columns] come from a
 * few integers c in [0, p) that the host draws at every step, in exact arithmetic of small integers:
 *
 *   a_i = P_i C mod p,  b_j = P_j C' mod p      C, C' [4, K] are drawn, P_i = (1, i0, i0^2, i1) with i = i0 + p i1
 *   u_ij = (a_i . b_j mod p) / p
 *
 * No sum reaches 2^22, so float32 holds each of them exactly, in any order of summation.
 */

/** p, a prime. The uniform numbers are multiples of 1 / p. */
const MODULUS = 1021;
/** The number of coordinates of an index; WIDTH is K. */
const DEGREE = 4;
const WIDTH = 4;

/** Returns the name of a layer's noise among a step's scalars. */
export function noiseKey(name: string): string {
  return `noise.${name}`;
}

/**
 * Draws the integers of one step, `[2 * DEGREE, WIDTH]` by `noise.<name>`: for the layers' masks, `<path>.<name>`, and
 * for those of the network's own dropout. Masks do not depend on which others there are.
 */
export function drawNoise(
  layers: AdapterLayers,
  rng: Rng,
  networkDropout: StepContext['networkDropout'] = {},
): HostTensors {
  const ofLayers = Object.values(layers).flatMap((layer) => (layer.noise ?? []).map((name) => tensorKey(layer, name)));
  const drawn = [...ofLayers, ...Object.keys(networkDropout)].map((name) => {
    const stream = rng.fork(name);
    const integers = Float32Array.from({ length: 2 * DEGREE * WIDTH }, () => stream.integer(MODULUS));
    return [noiseKey(name), hostTensor(integers, [2 * DEGREE, WIDTH])] as const;
  });
  return Object.fromEntries(drawn);
}

/**
 * Returns the rates of a network's own dropout in a run, by place; places without dropout are left out.
 * @param dropout `'config'` for the rates of its configuration, or one rate for all places
 */
export function networkDropout(
  { dropouts = {} }: Pick<Model, 'dropouts'>,
  dropout: 'config' | number,
): StepContext['networkDropout'] {
  const rates = Object.entries(dropouts).map(([name, rate]) => [name, dropout === 'config' ? rate : dropout] as const);
  return Object.fromEntries(rates.filter(([, rate]) => rate > 0));
}

/**
 * Applies inverted dropout to x `[rows, columns]` with drawn integers. The rate is rounded to a multiple of 1 / 1021
 * below 1.
 */
export function dropoutFrom(drawn: Tensor, x: Tensor, rate: number): Tensor {
  const [rows, columns] = x.shape as [number, number];
  return dropout(x, Math.min(Math.round(rate * MODULUS), MODULUS - 1) / MODULUS, uniform(drawn, rows, columns));
}

/** Computes uniform numbers in [0, 1), `[rows, columns]`. */
export function uniform(drawn: Tensor, rows: number, columns: number): Tensor {
  const a = modulo(tf.matMul(coordinates(rows), tf.slice(drawn, [0, 0], [DEGREE, WIDTH]))); // [rows, K]
  const b = modulo(tf.matMul(coordinates(columns), tf.slice(drawn, [DEGREE, 0], [DEGREE, WIDTH]))); // [columns, K]
  return tf.div(modulo(tf.matMul(a, b, false, true)), MODULUS); // [rows, columns]
}

/** Returns P `[count, DEGREE]`, exact for a count below 2^22. */
function coordinates(count: number): Tensor {
  const index = tf.range(0, count, 1, 'float32');
  const high = quotient(index);
  const low = tf.sub(index, tf.mul(high, MODULUS));
  return tf.stack([tf.onesLike(low), low, modulo(tf.square(low)), modulo(high)], 1);
}

/** Returns x mod p for whole numbers. */
function modulo(x: Tensor): Tensor {
  return tf.sub(x, tf.mul(quotient(x), MODULUS));
}

/**
 * Returns floor(x / p) for whole numbers. Adding 0.5 keeps a quotient just below a whole number from being rounded up
 * to it.
 */
function quotient(x: Tensor): Tensor {
  return tf.floor(tf.div(tf.add(x, 0.5), MODULUS));
}
