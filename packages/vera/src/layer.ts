import {
  pickColumns,
  pickRows,
  scaleColumns,
  tensorsAt,
  trained,
  hostTensor,
  hostZeros,
  floats,
  type AdapterLayer,
  type Site,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { VeraConfig } from './config.js';
import type { Projections } from './projections.js';

/*
 * VeRA (Kopiczko et al., 2024, arXiv 2310.11454), in row vectors:
 *
 *   y  = x W0 + b0 + ((c(x) A) * d) B * b     forward    x [rows, in]   A [in, r]   d [r]   B [r, out]   b [out]   c: dropout
 *   dW = A diag(d) B diag(b)                  toLora
 *   d = dInitial, b = 0                       trained
 *   A, B                                      frozen, the same for all modules: projections.ts
 *
 * The shared A and B are as wide as the widest module; every other one takes the first of A's rows and of B's columns.
 */

/** What the dropout of a module's input is called among its noise. */
const DROPOUT = 'veraDropout';

/** VeRA at one site. */
export function veraLayer(site: Site, config: VeraConfig, { veraA, veraB }: Projections): AdapterLayer {
  const { inFeatures, outFeatures } = site;
  const r = config.r;
  return {
    site,
    params: {
      veraLambdaD: trained(hostTensor(new Float32Array(r).fill(config.dInitial), [r])),
      veraLambdaB: trained(hostZeros([outFeatures])),
    },
    state: {
      veraA: { initial: veraA, shared: 'veraA' },
      veraB: { initial: veraB, shared: 'veraB' },
    },
    ...(config.veraDropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { veraLambdaD, veraLambdaB, veraA, veraB } = tensorsAt(p, 'veraLambdaD', 'veraLambdaB', 'veraA', 'veraB');
      const dropped = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, config.veraDropout);
      const hidden = tf.mul(tf.matMul(dropped, firstOf(veraA, [inFeatures, r])), veraLambdaD); // [rows, in] -> [rows, r]
      const change = tf.mul(tf.matMul(hidden, firstOf(veraB, [r, outFeatures])), veraLambdaB); // [rows, out]
      return tf.add(at.base(), change);
    },
    toLora(values) {
      const { veraLambdaD, veraLambdaB, veraA, veraB } = tensorsAt(
        values,
        'veraLambdaD',
        'veraLambdaB',
        'veraA',
        'veraB',
      );
      return {
        loraA: scaleColumns(pickRows(veraA, indices(inFeatures)), floats(veraLambdaD)), // A diag(d)
        loraB: scaleColumns(pickColumns(veraB, indices(outFeatures)), floats(veraLambdaB)), // B diag(b)
        scaling: 1,
      };
    },
    storedParameters: () => storedAt(site, r),
  };
}

/** The numbers of a module on disk: d and b. A and B follow from the seed. */
export function storedAt({ outFeatures }: Site, r: number): number {
  return r + outFeatures;
}

/** The upper left part of a matrix; the matrix itself where that is all of it. */
function firstOf(matrix: Tensor, size: readonly [number, number]): Tensor {
  return matrix.shape.every((length, axis) => length === size[axis]) ? matrix : tf.slice(matrix, [0, 0], [...size]);
}

function indices(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
