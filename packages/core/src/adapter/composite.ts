import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import type { AdapterLayer, FrozenModule, ParamSpec } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { ConfigError, UnsupportedError } from '../errors.js';
import * as nn from '../nn/index.js';
import { hostTensor, tensorAt, type HostTensors, type Tensors } from '../tensors.js';
import { lowRankLayer } from './low-rank-layer.js';
import { tensorKey, valuesOf, type Adapter } from './peft-model.js';

/*
 * Layers of several adapters at one module as one layer, for outputs only: training acts on one adapter. The tensors of
 * an adapter's layer are then called `<adapter>/<name>`.
 */

/** What one adapter does at a module. */
export interface Part {
  readonly adapter: string;
  readonly layer: AdapterLayer;
  /** The layer's tensors by its own names. */
  readonly values: HostTensors;
}

/** A layer's part of an adapter. */
export function partOf({ name, values }: Pick<Adapter, 'name' | 'values'>, layer: AdapterLayer): Part {
  return { adapter: name, layer, values: valuesOf(layer, values) };
}

/**
 * The parts in an order in which each can build on those before.
 * @throws ConfigError when two of them take the module's place.
 */
export function inOrder(parts: readonly Part[]): Part[] {
  const anew = parts.filter(({ layer }) => layer.startsAnew);
  if (anew.length > 1) {
    const [first, second] = anew.map(({ adapter }) => `'${adapter}'`);
    throw new ConfigError(
      `adapters ${first} and ${second} both train '${anew[0]?.layer.site.path}' whole or its bias: activate one of them`,
      'active',
    );
  }
  return [...anew, ...parts.filter(({ layer }) => !layer.startsAnew)];
}

/**
 * The part in a form that stands beside others: what takes the frozen weight's place is a change of it instead.
 * @param frozen the module as the model has it
 * @throws UnsupportedError when that change is not known.
 */
export function besideOthers(part: Part, frozen: FrozenModule): Part {
  const { frozenWeight, mergedBias, site } = part.layer;
  if (!frozenWeight) return part;
  const bias = mergedBias?.(part.values, frozen);
  const change = changeBeside(part, frozen);
  if (!change) {
    throw new UnsupportedError(
      `the adapter '${part.adapter}' of '${site.path}' cannot stand beside another one`,
      site.path,
    );
  }
  return bias ? { ...change, layer: withBias(change.layer), values: { ...change.values, bias } } : change;
}

/** The change of the weight as a layer; undefined when it is not known. */
function changeBeside({ adapter, layer, values }: Part, frozen: FrozenModule): Part | undefined {
  const { toLora, deltaWeight, site } = layer;
  if (toLora) {
    const factors = toLora(values);
    return { adapter, layer: lowRankLayer(site, factors), values: { loraA: factors.loraA, loraB: factors.loraB } };
  }
  if (!deltaWeight) return undefined;
  const delta = hostTensor(deltaWeight(values, frozen), frozen.weight.shape);
  return { adapter, layer: deltaLayer(site), values: { delta } };
}

/** The layer on the module with its own bias, `bias` [out] among its tensors. */
function withBias(layer: AdapterLayer): AdapterLayer {
  return {
    ...layer,
    startsAnew: true,
    forward: (x, p, at) => layer.forward(x, p, { ...at, base: () => at.run({ bias: tensorAt(p, 'bias') }) }),
  };
}

/** y = base + x D, D `[in, out]`. */
function deltaLayer(site: Site): AdapterLayer {
  return {
    site,
    params: {},
    forward(x, p, at) {
      const delta = tensorAt(p, 'delta');
      return tf.add(at.base(), site.kind === 'embedding' ? nn.embedding(delta, x) : nn.linear(x, delta));
    },
    storedParameters: () => site.inFeatures * site.outFeatures,
  };
}

/** The parts one after the other: what one of them finds as `base()` is the output of those before. */
export function chained(parts: readonly Part[]): AdapterLayer {
  return composite(parts, (x, p, at) =>
    parts.reduce((base, part) => () => part.layer.forward(x, ownTensors(part, p), { ...at, base }), at.base)(),
  );
}

/** Each row of a mixed batch by the part that its adapter has here, or by the module alone. Rows of x go through the batch first. */
export function routed(parts: readonly Part[]): AdapterLayer {
  return composite(parts, (x, p, at) => {
    const own = parts.map((part) => ({
      mask: at.ctx.rowsOf(part.adapter), // [batch, 1]
      y: part.layer.forward(x, ownTensors(part, p), at),
    }));
    const rest = own.reduce((left, { mask }) => tf.sub(left, mask), tf.onesLike((own[0] as { mask: Tensor }).mask));
    const masked = [{ mask: rest, y: at.base() }, ...own].map(({ mask, y }) => keptRows(y, mask));
    return masked.reduce((sum, y) => tf.add(sum, y));
  });
}

/** Zeros in the rows that a mask `[batch, 1]` leaves out: y `[batch * .., features]`, or of one row for the whole batch. */
function keptRows(y: Tensor, mask: Tensor): Tensor {
  const [first = 1, ...others] = y.shape;
  const batch = mask.shape[0];
  const kept = tf.mul(tf.reshape(y, [first === 1 ? 1 : batch, -1]), mask); // [batch, ..]
  return tf.reshape(kept, [first === 1 ? batch : first, ...others]);
}

/** The values of parts as those of one composite layer, by `<path>.<adapter>/<name>`. */
export function compositeValues(parts: readonly Part[]): HostTensors {
  const entries = parts.flatMap(({ adapter, layer, values }) =>
    Object.entries(values).map(([name, value]) => [tensorKey(layer, compositeName(adapter, name)), value] as const),
  );
  return Object.fromEntries(entries);
}

function composite(parts: readonly Part[], forward: AdapterLayer['forward']): AdapterLayer {
  const [first] = parts as readonly [Part, ...Part[]];
  const params: Record<string, ParamSpec> = {};
  for (const { adapter, values } of parts) {
    for (const [name, initial] of Object.entries(values)) {
      params[compositeName(adapter, name)] = { initial, trainable: false, group: 'default', decay: false };
    }
  }
  return {
    site: first.layer.site,
    params,
    forward,
    storedParameters: () => parts.reduce((sum, { layer, values }) => sum + layer.storedParameters(values), 0),
  };
}

/** The tensors of a part among those of its composite. */
function ownTensors({ adapter, values }: Part, p: Tensors): Tensors {
  return Object.fromEntries(Object.keys(values).map((name) => [name, tensorAt(p, compositeName(adapter, name))]));
}

function compositeName(adapter: string, name: string): string {
  return `${adapter}/${name}`;
}
