import {
  joinFactors,
  rankCost,
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
import { embedding, linear } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { LoraConfig } from './config.js';

/*
 * LoRA (Hu et al., 2021, arXiv 2106.09685), in row vectors:
 *
 *   y  = x W0 + b + c(x')               forward          x [rows, in], x' the same with dropout
 *   c(x) = s (x A) B                    output           A [in, r]   B [r, out]
 *   dW = s A B                          toLora           s = alpha / r, or alpha / sqrt(r): config.ts
 *   A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0                starts.ts, and every other start
 *
 * An embedding reads ids: x A are the rows of A that they name, A [num, r], without dropout. Where A and B start from a
 * part of W0, the frozen weight is W0 - s A0 B0, and dW = s (A B - A0 B0), of rank 2 r.
 *
 * LoRA+ (Hayou et al., 2024, arXiv 2402.12354): the learning rate of B is `loraplusLrRatio` times that of A.
 */

/** What the dropout of a module's input is called among its noise. */
const DROPOUT = 'loraDropout';

/** What the layer of a module starts from: A `[in, r]`, B `[r, out]` and s. */
export interface Start extends LoraFactors {
  /** W0 - s A B `[in, out]`, where A and B are a part of W0 that W0 alone determines. */
  readonly residual?: HostTensor;
  /** A and B are taken out of W0 as they are, and kept for that. */
  readonly kept?: boolean;
}

/** The change of a module, before it is a layer: variants differ in what they make of it. */
export interface LoraChange extends Pick<AdapterLayer, 'site' | 'params' | 'state' | 'noise' | 'frozenWeight'> {
  readonly r: number;
  readonly scaling: number;
  /** Ranks that a file holds: r, or 2 r where A and B start from a part of W0. */
  readonly storedRanks: number;
  /** Learning rate of all that is not A, in learning rates of A. */
  readonly upRate: number;
  /** The frozen module beside which A and B are trained. */
  frozen(x: Tensor, p: Tensors, at: ForwardContext): ForwardContext;
  /** x': what the change reads. */
  read(x: Tensor, ctx: StepContext): Tensor;
  /** c(x'), `[rows, out]`. */
  output(read: Tensor, p: Tensors): Tensor;
  /** s A B as it is trained. */
  trainedFactors(values: HostTensors): LoraFactors;
  /** s (A B - A0 B0): the change of W0. */
  factors(values: HostTensors): LoraFactors;
}

/** LoRA's layer, with what its variants and its file need of it. */
export interface LoraLayer extends AdapterLayer, Omit<LoraChange, keyof AdapterLayer> {}

/** y = base + c(x'). */
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

/** c(x') of a module, from where its A and B start. */
export function changeOf(site: Site, config: LoraConfig, start: Start): LoraChange {
  const { loraA, loraB, residual, scaling } = start;
  const r = loraA.shape[1] as number;
  const taken = { loraA, loraB, scaling: -scaling };
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
    factors: residual ? (values) => joinFactors(trainedFactors(values), taken) : trainedFactors,
  };
}

/** x A: `[rows, in]` or ids `[..]` -> `[.., r]`. */
function down({ kind }: Site, read: Tensor, loraA: Tensor): Tensor {
  return kind === 'embedding' ? embedding(loraA, read) : linear(read, loraA);
}
