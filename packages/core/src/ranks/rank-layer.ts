import * as tf from '@tensorflow/tfjs-core';
import { rankCost } from './budget.js';
import { foldDiagonal, nonZeroIndices } from './factors.js';
import * as nn from '../nn/index.js';
import { trained, type AdapterLayer, type ParamSpec } from '../contracts/layer.js';
import type { Site } from '../contracts/site.js';
import { mapValues, tensorAt, tensorsAt, type HostTensor, type HostTensors } from '../tensors.js';

/** The name of the noise for the dropout of a module's input. */
const DROPOUT = 'loraDropout';

/** What a low-rank layer is made of. */
export interface RankLayer {
  /**
   * The value of every tensor at the start: `loraA` [in, r], `loraB` [r, out], `gate` [r] if ranks have one, others.
   */
  readonly initial: HostTensors;
  /** s, the factor of the change. It does not depend on how many ranks are left. */
  readonly scaling: number;
  /** The name of the tensor [r] that multiplies ranks, zero for a pruned one. Default: `gate`, if there is one. */
  readonly gate?: string;
  /** The dropout probability of the module's input. Default 0. */
  readonly dropout?: number | undefined;
  /** How tensors are trained, by name, where it differs from `trained`; the others are state. Default: A and B. */
  readonly train?: Readonly<Record<string, Partial<ParamSpec>>> | undefined;
  /** As in `AdapterLayer`. */
  readonly loss?: AdapterLayer['loss'] | undefined;
  /** As in `AdapterLayer`. */
  readonly update?: AdapterLayer['update'] | undefined;
}

/**
 * Returns the layer of one module, in row vectors:
 *
 *     y  = x W0 + b + s ((d(x) A) * g) B
 *     dW = s A diag(g) B
 *
 * with x [rows, in], A [in, r], g [r] or none, B [r, out], and d for dropout; x A of an embedding are the rows of A at
 * the ids x. A rank whose gate is exactly zero is pruned: it is not stored. The functions of the layer read r from the
 * tensors that they get, so that a layer with other ranks is the same layer with other tensors.
 */
export function rankLayer(
  site: Site,
  {
    initial,
    scaling,
    gate = 'gate' in initial ? 'gate' : undefined,
    dropout = 0,
    train = { loraA: {}, loraB: {} },
    loss,
    update,
  }: RankLayer,
): AdapterLayer {
  const states = Object.entries(initial).filter(([name]) => !(name in train));
  const vector = gate ?? Object.keys(initial).find((name) => initial[name]?.shape.length === 1) ?? 'loraA';
  const live = (values: HostTensors): number => liveRanks(tensorAt(values, vector), gate !== undefined);
  return {
    site,
    scaling,
    params: mapValues(train, (spec, name) => ({ ...trained(tensorAt(initial, name)), ...spec })),
    ...(states.length > 0 && { state: mapValues(Object.fromEntries(states), (tensor) => ({ initial: tensor })) }),
    ...(dropout > 0 && { noise: [DROPOUT] }),
    forward(x, p, at) {
      const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
      const read = at.ctx.dropout(`${site.path}.${DROPOUT}`, x, dropout);
      const hidden = site.kind === 'embedding' ? nn.embedding(loraA, read) : nn.linear(read, loraA); // [.., r]
      const gated = gate === undefined ? hidden : tf.mul(hidden, tensorAt(p, gate)); // [.., r] * [r]
      return tf.add(at.base(), tf.mul(nn.linear(gated, loraB), scaling)); // [.., out]
    },
    ...(loss && { loss }),
    ...(update && { update }),
    toLora(values) {
      const factors = { ...tensorsAt(values, 'loraA', 'loraB'), scaling };
      return gate === undefined ? factors : foldDiagonal(factors, tensorAt(values, gate));
    },
    counted: [vector],
    storedParameters: (values) => live(values) * rankCost(site),
    rank: live,
  };
}

/** Counts the gates that are not zero or, without gates, all ranks: the last axis of A [in, r] and of a vector [r]. */
function liveRanks(tensor: HostTensor, isGate: boolean): number {
  return isGate ? nonZeroIndices(tensor).length : (tensor.shape.at(-1) as number);
}
