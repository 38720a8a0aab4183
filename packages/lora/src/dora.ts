import {
  floats,
  hostTensor,
  loraDelta,
  rankCost,
  rowNorms,
  tensorAt,
  tensorsAt,
  transposed,
  type ForwardContext,
  type FrozenModule,
  type HostTensor,
  type HostTensors,
  type Tensors,
} from '@peftjs/core';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { LoraChange, LoraLayer } from './layer.js';

/*
 * DoRA (Liu et al., 2024, arXiv 2402.09353), in row vectors:
 *
 *   V  = W0 + s A B                     [in, out]
 *   W' = m V / n                        m [out] trained, from ||V|| at the start   n = ||V|| [out], over the input axis
 *   y  = x W0 + b + (m / n - 1) x' W0 + (m / n) c(x')          the bias is not scaled; x' is x with dropout
 *
 * In the backward pass n is a constant (section 4.3 of the paper).
 */

/** The smallest norm that is divided by: outputs whose weights are all zero stay zero. */
const SMALLEST_NORM = 1e-12;

/** A change as a layer that trains the size of every output's weights apart from their direction. */
export function doraLayer(change: LoraChange, frozen: FrozenModule): LoraLayer {
  const { site, upRate } = change;
  const norms = (values: HostTensors): number[] => rowNorms(transposed(changedWeight(change, values, frozen)));
  const initial = hostTensor(Float32Array.from(norms(initialOf(change))), [site.outFeatures]);
  return {
    ...change,
    params: {
      ...change.params,
      loraMagnitudeVector: { initial, trainable: true, group: 'default', decay: true, rateFactor: upRate },
    },
    forward(x, p, at) {
      const module = change.frozen(x, p, at);
      const read = change.read(x, at.ctx);
      const factor = tf.div(tensorAt(p, 'loraMagnitudeVector'), constantNorm(module.weight(), p, change.scaling)); // [out]
      const own = tf.mul(product(module, read === x ? {} : { x: read }), tf.sub(factor, 1)); // [rows, out]
      return tf.add(tf.add(module.base(), own), tf.mul(change.output(read, p), factor));
    },
    deltaWeight(values) {
      const [weight, changed] = [floats(frozen.weight), floats(changedWeight(change, values, frozen))];
      const magnitude = floats(tensorAt(values, 'loraMagnitudeVector'));
      const factors = norms(values).map(
        (norm, output) => (magnitude[output] as number) / Math.max(norm, SMALLEST_NORM),
      );
      return changed.map(
        (value, index) => (factors[index % factors.length] as number) * value - (weight[index] as number),
      );
    },
    storedParameters: () => change.storedRanks * rankCost(site) + site.outFeatures,
    rank: () => change.r,
  };
}

/** x W0, from the module's own output, which is then computed once. */
function product({ run, bias }: ForwardContext, instead: Parameters<ForwardContext['run']>[0]): Tensor {
  const own = bias();
  return own ? tf.sub(run(instead), own) : run(instead);
}

/** n, for the tape a function of the frozen weight alone: A and B, closed over, have no gradient through it. */
function constantNorm(weight: Tensor, p: Tensors, scaling: number): Tensor {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  return tf.customGrad((...args) => {
    const [weight] = args as [Tensor];
    const changed = tf.add(weight, tf.mul(tf.matMul(loraA, loraB), scaling)); // [in, out]
    const norm = tf.sqrt(tf.sum(tf.square(changed), 0)); // [out]
    return { value: tf.maximum(norm, SMALLEST_NORM), gradFunc: () => tf.zerosLike(weight) };
  })(weight);
}

/** V. */
function changedWeight(change: LoraChange, values: HostTensors, { weight }: FrozenModule): HostTensor {
  const delta = loraDelta(change.factors(values));
  return hostTensor(
    floats(weight).map((value, index) => value + (delta[index] as number)),
    weight.shape,
  );
}

/** The tensors that a change starts from, by its own names. */
function initialOf({ params, state = {} }: LoraChange): HostTensors {
  return Object.fromEntries(Object.entries({ ...params, ...state }).map(([name, { initial }]) => [name, initial]));
}
