import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { assertArgument } from '../config.js';
import { ConfigError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, ParamSpec } from '../contracts/layer.js';
import type { Model } from '../contracts/model.js';
import { grouped, tensorAt, type HostTensors, type Tensors } from '../tensors.js';
import { deltaOf, frozenModule } from './attach.js';
import { anyModel, adapterNamed, tensorKey, valuesOf, type Adapter, type PeftModel } from './peft-model.js';
import type { Site } from '../contracts/site.js';
import * as nn from '../nn/index.js';
import { rankLayer } from '../ranks/rank-layer.js';

/** What computes a model's outputs: its weights and the adapter layers that act on them. */
export interface ActiveParts {
  /** The network, merged adapters included. */
  readonly model: Model;
  /** The layers of active adapters, by module path. */
  readonly layers: AdapterLayers;
  /** Their tensors, by `<path>.<name>`. */
  readonly values: HostTensors;
}

/**
 * Returns the model and layers that currently compute the outputs. A plain model has no layers, nor has one whose
 * adapters are disabled. Merged adapters are in the weights; with none merged, the model is `peft.model` itself.
 * Modules trained in full are those of the first active adapter. While the same adapters are active, this returns the
 * same objects, so that nothing is compiled again.
 * @throws ConfigError for a value that is no model, and when two active adapters replace the same module.
 * @throws UnsupportedError when an active adapter cannot be combined with the others.
 */
export function activeParts(peft: PeftModel | Model): ActiveParts {
  assertArgument('model', peft, anyModel);
  if (!('adapters' in peft)) return { model: peft, layers: {}, values: {} };
  if (!peft.enabled) return { model: peft.model, layers: {}, values: {} };
  const active = peft.active.map((name) => adapterNamed(peft, name));
  return remembered(lastActive, active, [peft.mergedWeights, peft.model, peft.merged.join()], () =>
    partsOfActive(peft, active),
  );
}

function partsOfActive(peft: PeftModel, active: readonly Adapter[]): ActiveParts {
  const model =
    peft.merged.length === 0
      ? peft.model
      : { ...peft.model, weights: { ...peft.model.weights, ...peft.mergedWeights } };
  const layers = active.filter(({ name }) => !peft.merged.includes(name)).flatMap(layerParts);
  const saved = active.slice(0, 1).flatMap(savedParts);
  const { tied = [] } = peft.model;
  // The layer of a tied head builds on the frozen table, and on what the table's layer makes of the head.
  const isOfTwo = ({ layer }: Part): boolean =>
    sharesTensors(layer) || tied.some(({ site }) => site.path === layer.site.path);
  const isAlone = peft.merged.length === 0 && (active.length === 1 || !layers.some(isOfTwo));
  return { model, ...byModule([...saved, ...layers], (parts) => combined(peft.model, parts, isAlone)) };
}

/**
 * Returns the layers for a mixed batch, in which each row uses its own adapter.
 * @throws UnsupportedError when an adapter acts on values that all rows share.
 */
export function mixedParts({ model }: PeftModel, adapters: readonly Adapter[]): ActiveParts {
  const parts = adapters.flatMap((adapter) => [...layerParts(adapter), ...savedParts(adapter)]);
  return remembered(lastMixed, adapters, [model], () => ({
    model,
    ...byModule(parts, (own) => {
      assertOfRows(own);
      const changes = own.map((part) => asChange(part, model));
      return { layer: composite(changes, byRows), values: compositeValues(changes) };
    }),
  }));
}

/** The last results by the first of their adapters, with all the inputs that each was made from, the newest first. */
type Remembered = WeakMap<Adapter, readonly { readonly inputs: readonly unknown[]; readonly parts: ActiveParts }[]>;

/** The number of results to remember: a call may name other adapters than the call before. */
const REMEMBERED = 8;

/** By merged weights and by model: results of merged weights end with these. */
const lastActive = new WeakMap<object, Remembered>();
const lastMixed = new WeakMap<object, Remembered>();

/**
 * Returns a remembered result that was made from the same adapters and `others`. Adapters are replaced, never modified.
 */
function remembered(
  made: WeakMap<object, Remembered>,
  adapters: readonly Adapter[],
  others: readonly [owner: object, ...unknown[]],
  make: () => ActiveParts,
): ActiveParts {
  const [first] = adapters;
  if (!first) return make();
  const inputs = [...adapters, ...others];
  const ofOwner: Remembered = made.get(others[0]) ?? new WeakMap();
  made.set(others[0], ofOwner);
  const before = ofOwner.get(first) ?? [];
  const isSame = (one: readonly unknown[]): boolean =>
    one.length === inputs.length && one.every((each, index) => each === inputs[index]);
  const found = before.find((one) => isSame(one.inputs)) ?? { inputs, parts: make() };
  ofOwner.set(first, [found, ...before.filter((one) => one !== found)].slice(0, REMEMBERED));
  return found.parts;
}

function assertOfRows(parts: readonly Part[]): void {
  const site = parts.map(({ layer }) => layer.site).find(({ readsShared }) => readsShared);
  if (!site) return;
  throw new UnsupportedError(
    `'${site.path}' reads values that all rows of a batch share: predict with one adapter at a time`,
    site.path,
  );
}

/** A layer and its values, by `<path>.<name>`. */
type ActivePart = Pick<Part, 'layer' | 'values'>;

/** Whether the layer has shared tensors: two adapters may use the same name for theirs. */
function sharesTensors({ state = {} }: AdapterLayer): boolean {
  return Object.values(state).some(({ shared }) => shared !== undefined);
}

/**
 * Combines the parts of one module into one layer. A single part acts unchanged if nothing is merged into its weight
 * and no other adapter uses its tensors' names or its table. Otherwise the parts act one after the other.
 */
function combined(model: Model, parts: readonly Part[], isAlone: boolean): ActivePart {
  const [only, ...others] = parts as readonly [Part, ...Part[]];
  if (others.length === 0 && isAlone) {
    const { layer, values } = only;
    return { layer, values: keyed(layer, values) };
  }
  const changes = inOrder(parts).map((part) => asChange(part, model));
  return { layer: composite(changes, inChain), values: compositeValues(changes) };
}

function byModule(parts: readonly Part[], act: (parts: readonly Part[]) => ActivePart): Omit<ActiveParts, 'model'> {
  const entries = [...grouped(parts, ({ layer }) => layer.site.path)].map(([path, own]) => [path, act(own)] as const);
  return {
    layers: Object.fromEntries(entries.map(([path, { layer }]) => [path, layer])),
    values: Object.assign({}, ...entries.map(([, { values }]) => values)) as HostTensors,
  };
}

/*
 * The layers of several adapters at one module as one layer, for outputs only: training uses one adapter. The tensors
 * of an adapter's layer are then named `<adapter>/<name>`.
 */

/** One adapter's layer at one module. */
export interface Part {
  /** The adapter's name. */
  readonly adapter: string;
  /** The layer. */
  readonly layer: AdapterLayer;
  /** The layer's tensors, by their names within the layer. */
  readonly values: HostTensors;
}

/** Returns the layers of an adapter's method. */
export function layerParts(adapter: Adapter): Part[] {
  return Object.values(adapter.layers).map((layer) => partOf(adapter, layer));
}

/** Returns the modules that an adapter trains in full. */
export function savedParts(adapter: Adapter): Part[] {
  return Object.values(adapter.saved).map((layer) => partOf(adapter, layer));
}

function partOf({ name, values }: Adapter, layer: AdapterLayer): Part {
  return { adapter: name, layer, values: valuesOf(layer, values) };
}

/**
 * Sorts the parts so that each can build on those before it.
 * @throws ConfigError when two of them replace the module.
 */
export function inOrder(parts: readonly Part[]): Part[] {
  const alone = parts.filter(({ layer }) => layer.ignoresBase);
  if (alone.length > 1) {
    const [first, second] = alone.map(({ adapter }) => `'${adapter}'`);
    throw new ConfigError(
      `adapters ${first} and ${second} both train '${alone[0]?.layer.site.path}' in full or its bias: activate one of them`,
      'active',
    );
  }
  return [...alone, ...parts.filter(({ layer }) => !layer.ignoresBase)];
}

/**
 * Returns the part in a form that can be combined with other adapters: a replaced frozen weight becomes a change of it.
 * @throws UnsupportedError when that change is not known.
 */
function asChange(part: Part, model: Model): Part {
  const { frozenWeight, mergedBias, site } = part.layer;
  if (!frozenWeight) return part;
  const bias = mergedBias?.(part.values, frozenModule(model, site.path));
  const change = weightChange(part, model);
  if (!change) {
    throw new UnsupportedError(
      `the adapter '${part.adapter}' of '${site.path}' cannot be combined with another`,
      site.path,
    );
  }
  return bias ? { ...change, layer: withBias(change.layer), values: { ...change.values, bias } } : change;
}

/** Returns the weight's change as a layer; undefined when it is not known. */
function weightChange({ adapter, layer, values }: Part, model: Model): Part | undefined {
  const { toLora, site } = layer;
  if (toLora) {
    const { scaling, ...factors } = toLora(values);
    return { adapter, layer: rankLayer(site, { initial: factors, scaling }), values: factors };
  }
  const delta = deltaOf(model, layer, values);
  return delta && { adapter, layer: deltaLayer(site), values: { delta } };
}

/** Returns the layer with the module's bias replaced by its tensor `bias` [out]. */
function withBias(layer: AdapterLayer): AdapterLayer {
  return {
    ...layer,
    ignoresBase: true,
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

/** Chains the parts: `base()` of each is the output of those before it. */
const inChain: Joined = (parts) => (x, p, at) =>
  parts.reduce((base, part) => () => part.layer.forward(x, ownTensors(part, p), { ...at, base }), at.base)();

/**
 * Applies to each row of a mixed batch its adapter's part, or the module alone. The batch is the slowest axis of x's
 * rows.
 */
const byRows: Joined = (parts) => (x, p, at) => {
  const own = parts.map((part) => ({
    mask: at.ctx.rowsOf(part.adapter), // [batch, 1]
    y: part.layer.forward(x, ownTensors(part, p), at),
  }));
  const rest = own.reduce((left, { mask }) => tf.sub(left, mask), tf.onesLike((own[0] as { mask: Tensor }).mask));
  const masked = [{ mask: rest, y: at.base() }, ...own].map(({ mask, y }) => keptRows(y, mask));
  return masked.reduce((sum, y) => tf.add(sum, y));
};

/**
 * Sets the rows that a mask `[batch, 1]` excludes to zero. y is `[batch * .., features]`, or one row for the whole
 * batch.
 */
function keptRows(y: Tensor, mask: Tensor): Tensor {
  const [first = 1, ...others] = y.shape;
  const batch = mask.shape[0];
  const kept = tf.mul(tf.reshape(y, [first === 1 ? 1 : batch, -1]), mask); // [batch, ..]
  return tf.reshape(kept, [first === 1 ? batch : first, ...others]);
}

/** The values of several parts as those of one composite layer, by `<path>.<adapter>/<name>`. */
function compositeValues(parts: readonly Part[]): HostTensors {
  const named = parts.map(({ adapter, layer, values }) => keyed(layer, values, (name) => compositeName(adapter, name)));
  return Object.assign({}, ...named) as HostTensors;
}

/** Returns a layer's values by `tensorKey`, under these names. Default: their own. */
function keyed(layer: AdapterLayer, values: HostTensors, nameOf = (name: string) => name): HostTensors {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [tensorKey(layer, nameOf(name)), value]));
}

/** Joins the forward functions of several parts. */
type Joined = (parts: readonly Part[]) => AdapterLayer['forward'];

function composite(parts: readonly Part[], joined: Joined): AdapterLayer {
  const [first] = parts as readonly [Part, ...Part[]];
  const onHead = parts.flatMap((part) => {
    const forward = tiedForwardOf(part.layer);
    return forward ? [{ ...part, layer: { ...part.layer, forward } }] : [];
  });
  const params: Record<string, ParamSpec> = {};
  for (const { adapter, values } of parts) {
    for (const [name, initial] of Object.entries(values)) {
      params[compositeName(adapter, name)] = { initial, trainable: false, group: 'default', decay: false };
    }
  }
  return {
    site: first.layer.site,
    params,
    forward: joined(parts),
    ...(onHead.length > 0 && { tiedForward: joined(onHead) }),
    storedParameters: () => parts.reduce((sum, { layer, values }) => sum + layer.storedParameters(values), 0),
  };
}

/**
 * Returns how a layer acts on a head that shares its table. A table trained in full takes the frozen one's place there
 * too; in a composite layer, which keeps the frozen one, that needs a function.
 */
export function tiedForwardOf({ site, replacesModule, tiedForward }: AdapterLayer): AdapterLayer['tiedForward'] {
  if (!replacesModule || site.kind !== 'embedding') return tiedForward;
  return (_x, p, at) => at.run({ weight: tf.transpose(tensorAt(p, 'weight')) }); // [words, width] -> [width, words]
}

/** Picks a part's tensors from those of its composite layer. */
function ownTensors({ adapter, values }: Part, p: Tensors): Tensors {
  return Object.fromEntries(Object.keys(values).map((name) => [name, tensorAt(p, compositeName(adapter, name))]));
}

function compositeName(adapter: string, name: string): string {
  return `${adapter}/${name}`;
}
