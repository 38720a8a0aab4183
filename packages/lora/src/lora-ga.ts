import {
  joinFactors,
  pickColumns,
  scaleColumns,
  tensorsAt,
  transposed,
  truncatedSvd,
  type HostTensor,
  type HostTensors,
  type LoraFactors,
  type Rng,
} from '@peftjs/core';
import { linear } from '@peftjs/core/nn';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { LoraGaConfig } from './config.js';
import type { LoraChange } from './layer.js';
import type { Scaled } from './ranks.js';

/*
 * LoRA-GA (Wang et al., 2024, arXiv 2407.05000) as PEFT has it, in row vectors:
 *
 *   dL/dW0 = U S V^T                    U [in, 2 r]   V [out, 2 r], of the first 2 r singular values
 *   A = a U_I                           [in, r]       I and J: r indices each, by `direction`
 *   B = b (V_J S_J)^T                   [r, out]      a and b: numbers, by `scale`
 *
 *   y = x W0 + b - s (x A0) B0 + c(x')  forward       A0, B0: where A and B start, the state `startA` and `startB`
 *
 * The gradient is not in the model, so that W0 - s A0 B0 cannot be computed anew: A0 and B0 are kept with the adapter.
 */

/** A weight `[in, out]` and the gradient at it, over some batches. */
interface Module {
  readonly weight: HostTensor;
  readonly gradient: HostTensor;
}

/** Factors of rank r along the gradient of a weight, of which 2 r is at most the smaller side. */
export function loraGaFactors(module: Module, { r, scaling }: Scaled, config: LoraGaConfig, rng: Rng): LoraFactors {
  const { u, s, v } = truncatedSvd(module.gradient, 2 * r);
  const [ofA, ofB] = directions(config, r, rng);
  const singular = ofB.map((index) => s[index] as number);
  const [a, b] = scales(config, module.weight, singular[0] as number, scaling);
  const left = scaleColumns(pickColumns(u, ofA), new Array<number>(r).fill(a)); // [in, r]
  const right = scaleColumns(
    pickColumns(v, ofB),
    singular.map((value) => b * value),
  ); // [out, r]
  return { loraA: left, loraB: transposed(right), scaling };
}

/** I and J. */
function directions({ direction }: LoraGaConfig, r: number, rng: Rng): [number[], number[]] {
  const first = Array.from({ length: r }, (_, index) => index);
  const second = first.map((index) => r + index);
  switch (direction) {
    case 'ArB2r':
      return [first, second];
    case 'A2rBr':
      return [second, first];
    case 'ArBr':
      return [first.map((index) => 2 * index + 1), first.map((index) => 2 * index)];
    case 'random': {
      const drawn = [...rng.permutation(2 * r)].slice(0, r);
      return [drawn, drawn];
    }
  }
}

/** a and b. `largest` is the first of the singular values that B takes. */
function scales(
  { scale, stableGamma }: LoraGaConfig,
  weight: HostTensor,
  largest: number,
  scaling: number,
): [number, number] {
  switch (scale) {
    case 'stable':
      return [1, (weight.shape[1] as number) ** 0.25 / Math.sqrt(stableGamma)];
    case 'weight_svd':
      return [1, largest > 0 ? (truncatedSvd(weight, 1).s[0] as number) / largest : 1];
    case 'gd_scale':
      return [1 / scaling, 1 / scaling];
    case 'unit':
      return [1, 1];
  }
}

/** The change beside a frozen module without the part that A and B start from. */
export function withKeptStart(change: LoraChange, start: LoraFactors): LoraChange {
  const { scaling } = change;
  const taken = (values: HostTensors): LoraFactors => {
    const { startA, startB } = tensorsAt(values, 'startA', 'startB');
    return { loraA: startA, loraB: startB, scaling: -scaling };
  };
  return {
    ...change,
    state: { startA: { initial: start.loraA }, startB: { initial: start.loraB } },
    storedRanks: 2 * change.storedRanks,
    frozen(x, p, at) {
      const { startA, startB } = tensorsAt(p, 'startA', 'startB');
      const without = (y: Tensor, read = x): Tensor => tf.sub(y, tf.mul(linear(linear(read, startA), startB), scaling)); // [rows, out]
      return {
        ...at,
        base: () => without(at.base()),
        run: (instead) => without(at.run(instead), instead.x),
        weight: () => tf.sub(at.weight(), tf.mul(tf.matMul(startA, startB), scaling)), // [in, out]
      };
    },
    factors: (values) => joinFactors(change.trainedFactors(values), taken(values)),
  };
}
