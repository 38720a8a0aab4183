import * as tf from '@tensorflow/tfjs-core';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { keptShare, nonNegative, parseOptions, positive, type OptionsOf } from '../config.js';
import { floats, hostTensor, tensorAt, tensorsAt, type HostTensor, type HostTensors } from '../tensors.js';
import { decayed, type CarrySlot, type Optimizer, type Slot } from './optimizer.js';

const options = {
  /**
   * epsilon_1, added to squared gradients, and epsilon_2, the smallest tensor scale for `scaleParameter`. Default
   * [1e-30, 1e-3].
   */
  eps: v.optional(v.tuple([positive, positive]), [1e-30, 1e-3]),
  /** d: updates with a larger root mean square are scaled down to it. Default 1. */
  clipThreshold: v.optional(positive, 1),
  /** The exponent of the second moment, below 0: at step t it keeps a share of 1 - t^decayRate. Default -0.8. */
  decayRate: v.optional(v.pipe(v.number(), v.finite(), v.ltValue(0)), -0.8),
  /**
   * The share of itself that a running mean of the updates keeps; null for no running mean, which saves its memory.
   * Default null.
   */
  beta1: v.optional(v.nullable(keptShare), null),
  /** Decoupled weight decay lambda, for parameters with `decay`. Default 0. */
  weightDecay: v.optional(nonNegative, 0),
  /**
   * Whether step sizes are relative to the tensor: eta_t times max(epsilon_2, root mean square of its elements).
   * Default false.
   */
  scaleParameter: v.optional(v.boolean(), false),
  /**
   * Whether to multiply the learning rate by min(0.01, 1 / sqrt(t)). With a constant learning rate of 1 this is
   * transformers' `relative_step`. Default false.
   */
  relativeStep: v.optional(v.boolean(), false),
};

/** Options of `adafactor`. Names and defaults are those of transformers' `Adafactor`, except for the two switches. */
export type AdafactorOptions = OptionsOf<typeof options>;

/**
 * Adafactor (Shazeer and Stern, 2018, arXiv 1804.04235, algorithms 4 to 6), as transformers' `Adafactor` computes it.
 * For a matrix `[in, out]` it keeps the means of the squared gradient along each axis: in + out numbers instead of in x
 * out.
 *
 * ```text
 * beta_t = 1 - t^decayRate                     a_t = eta_t max(eps2, rms(theta)), or eta_t
 * r <- beta_t r + (1 - beta_t) mean_out(g^2 + eps1)        c <- beta_t c + (1 - beta_t) mean_in(g^2 + eps1)
 * u = g / sqrt(r c / mean(r))                  u <- a_t u / max(1, rms(u) / d)
 * theta <- theta (1 - a_t lambda) - u
 * ```
 *
 * A tensor with more axes is a stack of matrices over its last two; a vector keeps its whole second moment. The
 * defaults of the two switches are those of transformers' `Trainer`, for an external learning rate and schedule.
 * @throws ConfigError naming the option that is unknown or impossible.
 */
export function adafactor(given: AdafactorOptions = {}): Optimizer {
  const settings = parseOptions('adafactor', options, given);
  const { eps, clipThreshold, decayRate, beta1, weightDecay, scaleParameter, relativeStep } = settings;
  return {
    name: 'adafactor',
    settings,
    slots: { ...secondMoments, ...(beta1 !== null && { moment1: { carried: 'gradient' } }) },
    elementwise: false,
    scalars: (step) => ({
      kept: 1 - step ** decayRate,
      entering: step ** decayRate,
      ...(relativeStep && { relative: Math.min(1e-2, 1 / Math.sqrt(step)) }),
    }),
    update({ value, gradient, slots, learningRate, decay, scalars }) {
      const { inverseRoot, slots: moments } = secondMoment(tf.add(tf.square(gradient), eps[0]), slots, scalars);
      const rated = relativeStep ? tf.mul<Scalar>(learningRate, tensorAt(scalars, 'relative')) : learningRate;
      const rate = scaleParameter ? tf.mul<Scalar>(rated, tf.maximum(eps[1], rootMeanSquare(value))) : rated;
      const raw = tf.mul(inverseRoot, gradient);
      const clipped = tf.div(raw, tf.maximum(1, tf.div(rootMeanSquare(raw), clipThreshold)));
      const change = tf.mul(clipped, rate);
      const from = decayed(value, rate, decay ? weightDecay : 0);
      if (beta1 === null) return { value: tf.sub(from, change), slots: moments };
      const moment1 = tf.add(tf.mul(tensorAt(slots, 'moment1'), beta1), tf.mul(change, 1 - beta1));
      return { value: tf.sub(from, moment1), slots: { ...moments, moment1 } };
    },
  };
}

const isFactored = (shape: readonly number[]): boolean => shape.length >= 2;

/** Carries the product of the factors over, and factors the result again. */
const carriedFactor =
  (axis: -1 | -2): CarrySlot =>
  (slots, carry) =>
    meanAlong(carry(product(slots), 'squaredGradient'), axis);

/**
 * The slots of a tensor's second moment: for a matrix `[.., in, out]` its means along `out` and `in`, otherwise the
 * whole.
 */
const secondMoments = {
  rows: {
    shape: (shape) => (isFactored(shape) ? shape.slice(0, -1) : null), // [.., in]
    carried: carriedFactor(-1),
  },
  columns: {
    shape: (shape) => (isFactored(shape) ? [...shape.slice(0, -2), ...shape.slice(-1)] : null), // [.., out]
    carried: carriedFactor(-2),
  },
  moment2: { shape: (shape) => (isFactored(shape) ? null : shape), carried: 'squaredGradient' },
} satisfies Readonly<Record<string, Slot>>;

/** Returns the second moment after a step, and 1 / sqrt of it. */
function secondMoment(
  squares: Tensor,
  slots: Readonly<Record<string, Tensor>>,
  scalars: Readonly<Record<string, Scalar>>,
): { inverseRoot: Tensor; slots: Record<string, Tensor> } {
  const { kept, entering } = tensorsAt(scalars, 'kept', 'entering');
  const averaged = (name: string, next: Tensor): Tensor =>
    tf.add(tf.mul(tensorAt(slots, name), kept), tf.mul(next, entering));
  if (!isFactored(squares.shape)) {
    const moment2 = averaged('moment2', squares);
    return { inverseRoot: tf.rsqrt(moment2), slots: { moment2 } };
  }
  const rows = averaged('rows', tf.mean(squares, -1)); // [.., in]
  const columns = averaged('columns', tf.mean(squares, -2)); // [.., out]
  const shares = tf.div(rows, tf.mean(rows, -1, true)); // [.., in]
  const inverseRoot = tf.mul(tf.expandDims(tf.rsqrt(shares), -1), tf.expandDims(tf.rsqrt(columns), -2)); // [.., in, out]
  return { inverseRoot, slots: { rows, columns } };
}

function rootMeanSquare(x: Tensor): Scalar {
  return tf.sqrt(tf.mean<Scalar>(tf.square(x)));
}

/**
 * Returns the second moment that the factors represent: r c / mean(r), `[.., in]` and `[.., out]` -> `[.., in, out]`; 0
 * where r is 0.
 */
function product(slots: HostTensors): HostTensor {
  const { rows, columns } = tensorsAt(slots, 'rows', 'columns');
  const [height, width] = [rows.shape.at(-1) ?? 0, columns.shape.at(-1) ?? 0];
  const [r, c] = [floats(rows, 'rows'), floats(columns, 'columns')];
  const data = new Float32Array(r.length * width);
  for (let row = 0; row < r.length; row++) {
    const stacked = Math.floor(row / height);
    const mean = average(r.subarray(stacked * height, (stacked + 1) * height));
    const share = mean === 0 ? 0 : (r[row] as number) / mean;
    for (let column = 0; column < width; column++) {
      data[row * width + column] = share * (c[stacked * width + column] as number);
    }
  }
  return hostTensor(data, [...rows.shape, width]);
}

/** Returns the mean along one of the last two axes, in double precision. */
function meanAlong(tensor: HostTensor, axis: -1 | -2): HostTensor {
  const [height = 0, width = 0] = tensor.shape.slice(-2);
  const [kept, along, step, stride] = axis === -1 ? [height, width, width, 1] : [width, height, 1, width];
  const values = floats(tensor);
  const data = Float32Array.from({ length: values.length / along }, (_, place) => {
    const start = Math.floor(place / kept) * height * width + (place % kept) * step;
    return average(Array.from({ length: along }, (_, other) => values[start + other * stride] as number));
  });
  return hostTensor(data, [...tensor.shape.slice(0, -2), kept]);
}

function average(values: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += values[index] as number;
  return values.length === 0 ? 0 : sum / values.length;
}
