import { embedding } from '@peftjs/core/nn';
import { floats, type HostTensor } from '@peftjs/core/method';
import { scaleRows } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { GradSaveFunc, Tensor } from '@tensorflow/tfjs-core';
import { inverse, Matrix } from 'ml-matrix';
import type { OftConfig } from './config.js';

/** The options that determine R from Q. */
export type RotationOptions = Pick<OftConfig, 'useCayleyNeumann' | 'numCayleyNeumannTerms' | 'coft' | 'eps'>;

/**
 * Returns R of each block.
 * @param vectors the entries above the diagonal of Q, row by row: [blocks, size (size - 1) / 2]
 * @returns [blocks, size, size]
 */
export function rotations(vectors: Tensor, size: number, options: RotationOptions): Tensor {
  const q = skewSymmetric(options.coft ? withinBall(vectors, options.eps) : vectors, size);
  return options.useCayleyNeumann ? neumann(q, size, options.numCayleyNeumannTerms) : cayley(q, size);
}

/** Returns Q, [blocks, size, size]. */
function skewSymmetric(vectors: Tensor, size: number): Tensor {
  const { places, signs } = layout(size);
  const entries = embedding(tf.transpose(vectors), tf.tensor1d(places, 'int32')); // [numbers, blocks] -> [size size, blocks]
  const square = tf.reshape(tf.transpose(entries), [-1, size, size]);
  return tf.mul(square, tf.tensor2d(signs, [size, size]));
}

/** Returns for every entry of Q its index among those above the diagonal, and its sign: 0 on the diagonal, -1 below. */
function layout(size: number): { readonly places: Int32Array; readonly signs: Float32Array } {
  const [places, signs] = [new Int32Array(size * size), new Float32Array(size * size)];
  let place = 0;
  for (let row = 0; row < size; row++) {
    for (let column = row + 1; column < size; column++, place++) {
      places[row * size + column] = places[column * size + row] = place;
      signs[row * size + column] = 1;
      signs[column * size + row] = -1;
    }
  }
  return { places, signs };
}

/** Returns the factors of the powers of Q in PEFT's series. 3 and 4 terms give the same series. */
function powersOf(terms: number): readonly number[] {
  if (terms === 2) return [1, 2];
  const inner = Math.max(2, terms - 2);
  return [1, ...Array.from({ length: inner }, () => 2), 1];
}

function neumann(q: Tensor, size: number, terms: number): Tensor {
  const [identity, ...factors] = powersOf(terms).map((factor, power) => ({ factor, power }));
  let sum: Tensor = tf.mul(tf.eye(size), identity?.factor ?? 1);
  let power = q;
  for (const { factor, power: exponent } of factors) {
    if (exponent > 1) power = tf.matMul(power, q);
    sum = tf.add(sum, factor === 1 ? power : tf.mul(power, factor));
  }
  return sum;
}

/** R = (I - Q) (I + Q)^-1 = 2 (I + Q)^-1 - I. */
function cayley(q: Tensor, size: number): Tensor {
  return tf.sub(tf.mul(inverseOf(q, size), 2), tf.eye(size));
}

/**
 * Steps of Newton's iteration. They suffice for Q with a norm of 300, whose rotations have angles within 0.01 of pi.
 */
const STEPS = 20;

/**
 * Returns P = (I + Q)^-1 by Newton's iteration P <- P (2 I - (I + Q) P) (Schulz, 1933), starting from
 * P = (I + Q)^T / (1 + ||Q||^2 / 2). The eigenvalues of a skew-symmetric matrix come in pairs, so none is above
 * ||Q|| / sqrt 2 and the iteration converges for every Q. The gradient follows from dP = -P dQ P.
 */
function inverseOf(q: Tensor, size: number): Tensor {
  return tf.customGrad((...args) => {
    const [q, save] = args as [Tensor, GradSaveFunc];
    const identity = tf.eye(size);
    const sum = tf.add(q, identity); // [blocks, size, size]
    const bound = tf.add(tf.mul(tf.sum(tf.square(q), [1, 2], true), 0.5), 1); // [blocks, 1, 1]
    let p: Tensor = tf.div(tf.sub(identity, q), bound);
    for (let step = 0; step < STEPS; step++) {
      p = tf.matMul(p, tf.sub(tf.mul(identity, 2), tf.matMul(sum, p)));
    }
    save([p]);
    const gradFunc = (dy: Tensor, [p]: Tensor[]): Tensor =>
      tf.neg(tf.matMul(tf.matMul(p as Tensor, dy, true, false), p as Tensor, false, true)); // -P^T dy P^T
    return { value: p, gradFunc };
  })(q);
}

/** Returns R of each block on the host, in double precision. */
export function rotationsOnHost(vectors: HostTensor, size: number, options: RotationOptions): Matrix[] {
  const { places, signs } = layout(size);
  const [blocks, numbers] = vectors.shape as [number, number];
  const values = floats(options.coft ? projectedOnHost(vectors, options.eps) : vectors);
  return Array.from({ length: blocks }, (_, block) => {
    const q = new Matrix(size, size);
    places.forEach((place, entry) => {
      const value = (signs[entry] as number) * (values[block * numbers + place] as number);
      q.set(Math.floor(entry / size), entry % size, value);
    });
    return options.useCayleyNeumann ? neumannOnHost(q, options.numCayleyNeumannTerms) : cayleyOnHost(q);
  });
}

function neumannOnHost(q: Matrix, terms: number): Matrix {
  const sum = Matrix.eye(q.rows);
  let power = q;
  powersOf(terms).forEach((factor, exponent) => {
    if (exponent === 0) return;
    if (exponent > 1) power = power.mmul(q);
    sum.add(Matrix.mul(power, factor));
  });
  return sum;
}

function cayleyOnHost(q: Matrix): Matrix {
  const identity = Matrix.eye(q.rows);
  return inverse(Matrix.add(identity, q)).mul(2).sub(identity);
}

/**
 * COFT's projection: moves Q of each block into the ball of radius `eps / sqrt(blocks)` around zero, in the Frobenius
 * norm.
 * @param vectors [blocks, size (size - 1) / 2], the entries above the diagonal; Q contains each twice
 */
export function projected(vectors: Tensor, eps: number): Tensor {
  const radius = eps / Math.sqrt(vectors.shape[0]);
  const norms = tf.sqrt(tf.mul(tf.sum(tf.square(vectors), 1, true), 2)); // [blocks, 1]
  return tf.mul(vectors, tf.where(tf.greater(norms, radius), tf.div(radius, tf.maximum(norms, 1e-30)), 1));
}

/** Does the same as `projected`, but passes the gradient unchanged. */
function withinBall(vectors: Tensor, eps: number): Tensor {
  return tf.customGrad((...args) => ({
    value: projected(args[0] as Tensor, eps),
    gradFunc: (dy: Tensor) => dy,
  }))(vectors);
}

/** The relative excess over the radius that counts as rounding, so that projecting twice changes nothing. */
const SLACK = 1e-6;

/** Does the same as `projected` on the host. */
export function projectedOnHost(vectors: HostTensor, eps: number): HostTensor {
  const [blocks, numbers] = vectors.shape as [number, number];
  const radius = eps / Math.sqrt(blocks);
  const values = floats(vectors);
  const factors = Array.from({ length: blocks }, (_, block) => {
    const own = values.subarray(block * numbers, (block + 1) * numbers);
    const norm = Math.sqrt(2 * own.reduce((sum, value) => sum + value * value, 0));
    return norm > (1 + SLACK) * radius ? radius / norm : 1;
  });
  return scaleRows(vectors, factors);
}
