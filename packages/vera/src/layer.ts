import { hostTensor } from '@peftjs/core';
import {
  ConfigError,
  fixedLayer,
  floats,
  hostFilled,
  hostZeros,
  sizeOf,
  tensorsAt,
  trained,
  type AdapterLayer,
  type HostTensor,
  type Site,
} from '@peftjs/core/method';
import { pickColumns, pickRows, scaleColumns, transposed } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { mersenne } from 'pure-rand/generator/mersenne';
import { savesProjection, type VeraConfig } from './config.js';

/*
 * VeRA (Kopiczko et al., 2024, arXiv 2310.11454), in row vectors:
 *
 *   y  = x W0 + b0 + ((c(x) A) * d) B * b     forward    x [rows, in]   A [in, r]   d [r]   B [r, out]   b [out]
 *   c  : dropout during training
 *   dW = A diag(d) B diag(b)                  toLora
 *   d = dInitial, b = 0                       trained
 *   A, B                                      frozen, the same for all modules: `drawProjections`
 *
 * The shared A and B are as wide as the widest module. Other modules use the first rows of A and the first columns of
 * B.
 */

const TENSORS = ['veraLambdaD', 'veraLambdaB', 'veraA', 'veraB'] as const;

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'veraDropout';

/** Returns the VeRA layer of one module. */
export function veraLayer(site: Site, config: VeraConfig, { veraA, veraB }: Projections): AdapterLayer {
  const { inFeatures, outFeatures } = site;
  const r = config.r;
  const inFile = savesProjection(config);
  return fixedLayer({
    site,
    params: {
      veraLambdaD: trained(hostFilled([r], config.dInitial)),
      veraLambdaB: trained(hostZeros([outFeatures])),
    },
    state: {
      veraA: { initial: veraA, shared: 'veraA', inFile },
      veraB: { initial: veraB, shared: 'veraB', inFile },
    },
    ...(config.veraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { veraLambdaD, veraLambdaB, veraA, veraB } = tensorsAt(p, ...TENSORS);
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, config.veraDropout);
      const hidden = tf.mul(tf.matMul(dropped, firstOf(veraA, [inFeatures, r])), veraLambdaD); // [rows, in] -> [rows, r]
      const change = tf.mul(tf.matMul(hidden, firstOf(veraB, [r, outFeatures])), veraLambdaB); // [rows, out]
      return tf.add(at.base(), change);
    },
    toLora(values) {
      const { veraLambdaD, veraLambdaB, veraA, veraB } = tensorsAt(values, ...TENSORS);
      return {
        loraA: scaleColumns(pickRows(veraA, indices(inFeatures)), floats(veraLambdaD)), // A diag(d)
        loraB: scaleColumns(pickColumns(veraB, indices(outFeatures)), floats(veraLambdaB)), // B diag(b)
        scaling: 1,
      };
    },
  });
}

/** Returns the number of a module's own values on disk: d and b. */
export function storedAt({ outFeatures }: Site, r: number): number {
  return r + outFeatures;
}

/** Returns the upper left part of a matrix, or the matrix itself if that is all of it. */
function firstOf(matrix: Tensor, size: readonly [number, number]): Tensor {
  return matrix.shape.every((length, axis) => length === size[axis]) ? matrix : tf.slice(matrix, [0, 0], [...size]);
}

/** Returns 0, 1, .. below `count`. */
export function indices(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** The most values of the two matrices together: 512 MB. */
const MAX_NUMBERS = 2 ** 27;

/** The frozen matrices that all modules share. */
interface Projections {
  /** A, [widest input, r]. */
  readonly veraA: HostTensor;
  /** B, [r, widest output]. */
  readonly veraB: HostTensor;
}

/**
 * Draws A and B (He et al., 2015): uniform within sqrt(6 / fan), where fan is a row's length in torch's layout. They
 * are wide enough for every module, and have the values that PEFT draws on a CPU: those of torch's Mersenne Twister,
 * seeded by `projectionPrngKey`, A before B, row by row in torch's layout.
 * @throws ConfigError when they would take more than 512 MB, which no useful rank does.
 */
export function drawProjections(sites: readonly Site[], { r, projectionPrngKey }: VeraConfig): Projections {
  const [inFeatures, outFeatures] = widest(sites);
  const numbers = r * (inFeatures + outFeatures);
  if (numbers > MAX_NUMBERS) {
    const most = Math.floor(MAX_NUMBERS / (inFeatures + outFeatures));
    throw new ConfigError(`vera: r is ${r}; the shared matrices of these modules allow at most ${most}`, 'r');
  }
  const uniform = torchUniform(projectionPrngKey);
  const loraShaped = (rows: number, columns: number): HostTensor => {
    const bound = Math.sqrt(3) * (Math.sqrt(2) / Math.sqrt(columns));
    const data = Float32Array.from({ length: sizeOf([rows, columns]) }, () => uniform(-bound, bound));
    return transposed(hostTensor(data, [rows, columns]));
  };
  const veraA = loraShaped(r, inFeatures);
  return { veraA, veraB: loraShaped(outFeatures, r) };
}

/** Returns the largest input and the largest output of all modules. */
export function widest(sites: readonly Site[]): [inFeatures: number, outFeatures: number] {
  return [
    Math.max(...sites.map(({ inFeatures }) => inFeatures)),
    Math.max(...sites.map(({ outFeatures }) => outFeatures)),
  ];
}

/** Returns a generator of float32 values between two bounds, like torch's `uniform_` on a CPU: 24 bits per value. */
function torchUniform(seed: number): (from: number, to: number) => number {
  const generator = mersenne(seed);
  const bits = 2 ** 24;
  return (from, to) => {
    const share = ((generator.next() >>> 0) % bits) / bits; // exact in float32
    const [low, high] = [Math.fround(from), Math.fround(to)];
    return Math.fround(share * Math.fround(high - low) + low); // multiply and add with a single rounding
  };
}
