import { hostTensor } from '@peftjs/core';
import {
  ConfigError,
  floats,
  hostZeros,
  mapTensor,
  tensorAt,
  tensorsAt,
  trained,
  type ForwardContext,
  type FrozenModule,
  type HostTensor,
  type HostTensors,
  type ParamSpec,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import { rankCost } from '@peftjs/core/ranks';
import { loraDelta, matrixProduct, rowNorms, symmetricInverse, transposed } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { LoraConfig } from './config.js';
import { changeOf, plainLayer, type LoraChange, type LoraLayer, type Start } from './layer.js';
import { subtracted, subtractStart } from './starts.js';

/** Returns the layer of an adapted module, with the variants that the configuration selects. */
export function loraLayer(site: Site, config: LoraConfig, start: Start, frozen: FrozenModule): LoraLayer {
  const change = start.kept ? subtractStart(changeOf(site, config, start), start) : changeOf(site, config, start);
  let layer = config.useDora ? doraLayer(change, frozen) : plainLayer(change);
  if (config.loraBias) layer = withOwnBias(layer);
  if (config.bias !== 'none' && frozen.bias) layer = withTrainedBias(layer, frozen.bias);
  if (config.loraFa && site.kind === 'linear') layer = withFrozenA(layer);
  if (!start.residual && !config.useDora) return layer;
  const startOn = ({ weight }: FrozenModule): Start => (start.residual ? subtracted(start, weight) : start);
  return { ...layer, onModule: (module) => loraLayer(site, config, startOn(module), module) };
}

/*
 * DoRA (Liu et al., 2024, arXiv 2402.09353), in row vectors:
 *
 *   V  = W0 + s A B                     [in, out]
 *   n  = ||V||                          [out], the norm over the input axis
 *   W' = m V / n                        m [out] is trained and starts as n
 *   y  = x W0 + b + (m / n - 1) x' W0 + (m / n) c(x')          the bias is not scaled; x' is x with dropout
 *
 * n is a constant in the backward pass (section 4.3 of the paper).
 */

/** The lower limit of norms that are divided by. Outputs whose weights are all zero stay zero. */
const SMALLEST_NORM = 1e-12;

/** Returns the layer that trains the magnitude of each output's weights separately from their direction. */
function doraLayer(change: LoraChange, frozen: FrozenModule): LoraLayer {
  const { site, upRate } = change;
  const norms = (values: HostTensors): number[] => rowNorms(transposed(changedWeight(change, values, frozen)));
  const initial = hostTensor(Float32Array.from(norms(initialOf(change))), [site.outFeatures]);
  return {
    ...change,
    params: {
      ...change.params,
      loraMagnitudeVector: { ...trained(initial), rateFactor: upRate },
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
    counted: [],
    storedParameters: () => change.storedRanks * rankCost(site) + site.outFeatures,
    rank: () => change.r,
  };
}

/** Returns x W0 as the module's output minus its bias, so that W0 is multiplied only once. */
function product({ run, bias }: ForwardContext, instead: Parameters<ForwardContext['run']>[0]): Tensor {
  const own = bias();
  return own ? tf.sub(run(instead), own) : run(instead);
}

/** Returns n. Only the frozen weight is an argument of the custom gradient, so A and B get no gradient through n. */
function constantNorm(weight: Tensor, p: Tensors, scaling: number): Tensor {
  const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB');
  return tf.customGrad((...args) => {
    const [weight] = args as [Tensor];
    const changed = tf.add(weight, tf.mul(tf.matMul(loraA, loraB), scaling)); // [in, out]
    const norm = tf.sqrt(tf.sum(tf.square(changed), 0)); // [out]
    return { value: tf.maximum(norm, SMALLEST_NORM), gradFunc: () => tf.zerosLike(weight) };
  })(weight);
}

/** Returns V, [in, out]. */
function changedWeight(change: LoraChange, values: HostTensors, { weight }: FrozenModule): HostTensor {
  const delta = loraDelta(change.factors(values));
  return mapTensor(weight, (value, index) => value + (delta[index] as number));
}

/** Returns the initial tensors of a change by name. */
function initialOf({ params, state = {} }: LoraChange): HostTensors {
  return Object.fromEntries(Object.entries({ ...params, ...state }).map(([name, { initial }]) => [name, initial]));
}

/*
 * Biases, in row vectors:
 *
 *   y = x W0 + b + c(x') + s d          `loraBias`                   d [out] trained, from zero
 *   y = x W0 + b' + c(x')               `bias`: 'lora_only', 'all'   b' [out] trained, from b
 *   and b' at every other module with a bias                         `bias: 'all'`
 */

/** Adds a bias of B to the layer. @throws ConfigError for an embedding, as in PEFT. */
function withOwnBias(layer: LoraLayer): LoraLayer {
  const { site, scaling, upRate } = layer;
  if (site.kind === 'embedding') {
    throw new ConfigError(`lora: loraBias is for linear modules; '${site.path}' is an embedding`, 'loraBias');
  }
  return {
    ...layer,
    params: { ...layer.params, loraBias: biasSpec(hostZeros([site.outFeatures]), upRate) },
    forward: (x, p, at) => tf.add(layer.forward(x, p, at), tf.mul(tensorAt(p, 'loraBias'), scaling)),
    mergedBias(values, { bias }) {
      const own = floats(tensorAt(values, 'loraBias')).map((value) => scaling * value);
      return hostTensor(bias ? own.map((value, index) => value + (floats(bias)[index] as number)) : own, [own.length]);
    },
    storedParameters: (values) => layer.storedParameters(values) + site.outFeatures,
  };
}

/** Makes the module's own bias trained. */
function withTrainedBias(layer: LoraLayer, initial: HostTensor): LoraLayer {
  return {
    ...layer,
    params: { ...layer.params, bias: biasSpec(initial, layer.upRate) },
    ignoresBase: true,
    forward: (x, p, at) => layer.forward(x, p, { ...at, base: () => at.run({ bias: tensorAt(p, 'bias') }) }),
    mergedBias(values, module) {
      const bias = tensorAt(values, 'bias');
      return layer.mergedBias?.(values, { ...module, bias }) ?? bias;
    },
    storedParameters: (values) => layer.storedParameters(values) + layer.site.outFeatures,
  };
}

function biasSpec(initial: HostTensor, rateFactor: number): ParamSpec {
  return { ...trained(initial, { decay: false }), rateFactor };
}

/*
 * LoRA-FA (Zhang et al., 2023, arXiv 2308.03303) with the gradient of PEFT's optimizer, in row vectors:
 *
 *   A keeps its initial value
 *   g_B <- (A^T A + delta I)^-1 g_B / s^2          g_B = s A^T G   [r, out], G = dL/dW [in, out]
 *
 * Then s A g_B = P G, where P projects on the columns of A: of all changes that B can make, this is the one nearest to
 * the gradient of the full weight.
 */

/** delta, as in PEFT. */
const RIDGE = 1e-8;

/** The name of the inverse in a layer's state. */
export const GRAM_INVERSE = 'gramInverse';

/** Freezes A of the layer. @throws ConfigError when r > in, because then A has no full rank. */
function withFrozenA(layer: LoraLayer): LoraLayer {
  const { site, params, r, scaling } = layer;
  if (r > site.inFeatures) {
    throw new ConfigError(`lora: loraFa needs r <= ${site.inFeatures}, the inputs of '${site.path}'; got ${r}`, 'r');
  }
  const loraA = tensorAt(params, 'loraA');
  return {
    ...layer,
    params: { ...params, loraA: { ...loraA, trainable: false } },
    state: { ...layer.state, [GRAM_INVERSE]: { initial: gramInverse(loraA.initial) } },
    gradient: (name, gradient, p) =>
      name === 'loraB' ? tf.mul(tf.matMul(tensorAt(p, GRAM_INVERSE), gradient), 1 / scaling ** 2) : gradient, // [r, out]
  };
}

/** Returns (A^T A + delta I)^-1 [r, r] of A [in, r]. Whenever A is set, this must be set too. */
export function gramInverse(loraA: HostTensor): HostTensor {
  return symmetricInverse(matrixProduct(transposed(loraA), loraA), RIDGE);
}
