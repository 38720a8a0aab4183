import {
  tensorsAt,
  trained,
  type AdapterLayer,
  type ForwardContext,
  type HostTensor,
  type HostTensors,
  type LoraFactors,
  type Site,
  type StepContext,
  type Tensors,
} from '@peftjs/core/method';
import { rankCost } from '@peftjs/core/ranks';
import { joinFactors } from '@peftjs/core/linalg';
import { embedding, linear } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { LoraConfig } from './config.js';

/*
 * LoRA (Hu et al., 2021, arXiv 2106.09685), in row vectors:
 *
 *   y  = x W0 + b + c(x')               forward          x [rows, in]; x' is x with dropout
 *   c(x) = s (x A) B                    output           A [in, r]   B [r, out]
 *   dW = s A B                          toLora           s = alpha / r, or alpha / sqrt(r): config.ts
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0                this and all other initializations: starts.ts
 *
 * An embedding reads ids: x A is the rows of A at these ids, A [num, r], without dropout. If A and B start from a part
 * of W0, the frozen weight is W0 - s A0 B0 and dW = s (A B - A0 B0), of rank 2 r.
 *
 * LoRA+ (Hayou et al., 2024, arXiv 2402.12354): the learning rate of B is `loraplusLrRatio` times that of A.
 */

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/** The initial A [in, r], B [r, out] and s of a module's layer. */
export interface Start extends LoraFactors {
  /** W0 - s A B [in, out], if A and B are a part of W0 that W0 alone determines. */
  readonly residual?: HostTensor;
  /** Whether W0 was rounded to few bits: its float32 numbers would give another A and B. */
  readonly isRounded?: boolean;
  /** Whether A0 and B0 are subtracted from W0 and kept in the adapter, because W0 alone does not determine them. */
  readonly kept?: boolean;
}

/** The change of a module. Variants build different layers from it. */
export interface LoraChange extends Pick<AdapterLayer, 'site' | 'params' | 'state' | 'noise' | 'frozenWeight'> {
  /** The rank. */
  readonly r: number;
  /** s. */
  readonly scaling: number;
  /** A0 and B0 as a part of rounded numbers of W0, which a file has to keep: by their names in `subtractStart`. */
  readonly startOfRounded?: HostTensors;
  /** The number of ranks in a file: r, or 2 r if A and B start from a part of W0. */
  readonly storedRanks: number;
  /** The ratio of the learning rate of everything but A to that of A. */
  readonly upRate: number;
  /** Returns the frozen module, without the part that A0 and B0 took from it. */
  frozen(x: Tensor, p: Tensors, at: ForwardContext): ForwardContext;
  /** Returns x', the input of the change. */
  read(x: Tensor, ctx: StepContext): Tensor;
  /** Returns c(x'), [rows, out]. */
  output(read: Tensor, p: Tensors): Tensor;
  /** Returns the factors of s A B, the trained part. */
  trainedFactors(values: HostTensors): LoraFactors;
  /** Returns the factors of s (A B - A0 B0), the change of W0. */
  factors(values: HostTensors): LoraFactors;
}

/** A layer of LoRA, with the members that its variants and its file format need. */
export interface LoraLayer extends AdapterLayer, Omit<LoraChange, keyof AdapterLayer> {
  readonly scaling: number;
}

/** Returns the layer of plain LoRA: y = base + c(x'). */
export function plainLayer(change: LoraChange): LoraLayer {
  return {
    ...change,
    forward: (x, p, at) => tf.add(change.frozen(x, p, at).base(), change.output(change.read(x, at.ctx), p)),
    toLora: change.factors,
    counted: [],
    storedParameters: () => change.storedRanks * rankCost(change.site),
    rank: () => change.r,
  };
}

/** Returns the change of a module with these initial factors. */
export function changeOf(site: Site, config: LoraConfig, start: Start): LoraChange {
  const { loraA, loraB, residual, scaling, isRounded = false } = start;
  const r = loraA.shape[1] as number;
  const subtracted = { loraA, loraB, scaling: -scaling };
  const upRate = site.kind === 'embedding' ? 1 : config.loraplusLrRatio;
  const rate = site.kind === 'embedding' ? 0 : config.loraDropout;
  const trainedFactors: LoraChange['trainedFactors'] = (values) => ({
    ...tensorsAt(values, 'loraA', 'loraB'),
    scaling,
  });
  return {
    site,
    params: { loraA: trained(loraA), loraB: { ...trained(loraB), rateFactor: upRate } },
    ...(rate > 0 && { noise: [DROPOUT] }),
    ...(residual && { frozenWeight: residual }),
    ...(isRounded && { startOfRounded: { startA: loraA, startB: loraB } }),
    r,
    scaling,
    upRate,
    storedRanks: residual ? 2 * r : r,
    frozen: (_x, _p, at) => at,
    read: (x, ctx) => (rate > 0 ? ctx.dropout(`${site.path}.${DROPOUT}`, x, rate) : x),
    output(read, p) {
      const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
      return tf.mul(linear(down(site, read, loraA), loraB), scaling); // [rows, r] -> [rows, out]
    },
    trainedFactors,
    factors: residual ? (values) => joinFactors(trainedFactors(values), subtracted) : trainedFactors,
  };
}

/** Returns x A: [rows, in] or ids [..] -> [.., r]. */
function down({ kind }: Site, read: Tensor, loraA: Tensor): Tensor {
  return kind === 'embedding' ? embedding(loraA, read) : linear(read, loraA);
}
