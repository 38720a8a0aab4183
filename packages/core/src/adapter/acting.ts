import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { ConfigError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, FrozenModule, ParamSpec } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { hostTensor, tensorAt, type HostTensors, type Tensors } from '../tensors.js';
import { frozenModule } from './attach.js';
import { adapterNamed, tensorKey, valuesOf, type Adapter, type PeftModel } from './peft-model.js';
import type { Site } from '../contracts/site.js';
import * as nn from '../nn/index.js';
import { lowRankLayer } from './layers.js';

/** What runs when a model is asked for outputs: its weights, and the layers that act on them. */
export interface ActingParts {
  readonly model: Model;
  readonly layers: AdapterLayers;
  readonly values: HostTensors;
}

/**
 * Returns the parts of a model that act as it stands: a plain model has no layers, and neither has one whose adapters are disabled.
 * What is merged is in the weights; where nothing is, the model is `peft.model` itself. The modules trained whole are those of the first
 * active adapter. As long as the same adapters act, their layers and the model are the same objects, so that nothing is compiled again.
 * @throws ConfigError when two active adapters take the place of one module.
 */
export function actingParts(peft: PeftModel | Model): ActingParts {
  if (!('adapters' in peft)) return { model: peft, layers: {}, values: {} };
  if (!peft.enabled) return { model: peft.model, layers: {}, values: {} };
  const active = peft.active.map((name) => adapterNamed(peft, name));
  return remembered(acting, active, [peft.model, peft.mergedWeights, peft.merged.join()], () =>
    partsOfActive(peft, active),
  );
}

function partsOfActive(peft: PeftModel, active: readonly Adapter[]): ActingParts {
  const model =
    peft.merged.length === 0
      ? peft.model
      : { ...peft.model, weights: { ...peft.model.weights, ...peft.mergedWeights } };
  const layers = active.filter(({ name }) => !peft.merged.includes(name)).flatMap(partsOf('layers'));
  const saved = active.slice(0, 1).flatMap(partsOf('saved'));
  const isAlone =
    peft.merged.length === 0 && (active.length === 1 || !layers.some(({ layer }) => sharesTensors(layer)));
  return { model, ...byModule([...saved, ...layers], (parts) => combined(peft.model, parts, isAlone)) };
}

/**
 * The parts of adapters by which each row of a mixed batch goes its own way.
 * @throws UnsupportedError when one of them acts on what all rows share.
 */
export function mixedParts({ model }: PeftModel, adapters: readonly Adapter[]): ActingParts {
  const parts = adapters.flatMap((adapter) => [...partsOf('layers')(adapter), ...partsOf('saved')(adapter)]);
  return remembered(mixed, adapters, [model], () => ({
    model,
    ...byModule(parts, (own) => {
      assertOfRows(own);
      const beside = own.map((part) => besideOthers(part, frozenModule(model, part.layer.site.path)));
      return { layer: routed(beside), values: compositeValues(beside) };
    }),
  }));
}

/** What was made last for adapters of which this one is the first, and of what. */
type Remembered = WeakMap<Adapter, { readonly of: readonly unknown[]; readonly parts: ActingParts }>;

const acting: Remembered = new WeakMap();
const mixed: Remembered = new WeakMap();

/** The parts as they were made before, if from the same adapters and `others`: adapters are never changed, but replaced. */
function remembered(
  made: Remembered,
  adapters: readonly Adapter[],
  others: readonly unknown[],
  make: () => ActingParts,
): ActingParts {
  const [first] = adapters;
  if (!first) return make();
  const of = [...adapters, ...others];
  const found = made.get(first);
  if (found?.of.length === of.length && found.of.every((each, index) => each === of[index])) return found.parts;
  const parts = make();
  made.set(first, { of, parts });
  return parts;
}

function assertOfRows(parts: readonly Part[]): void {
  const site = parts.map(({ layer }) => layer.site).find(({ readsShared }) => readsShared);
  if (!site) return;
  throw new UnsupportedError(
    `'${site.path}' reads what the rows of a batch share: they cannot go by different adapters there; predict with one at a time`,
    site.path,
  );
}

function partsOf(kind: 'layers' | 'saved'): (adapter: Adapter) => Part[] {
  return (adapter) => Object.values(adapter[kind]).map((layer) => partOf(adapter, layer));
}

/** A layer and its values, by `<path>.<name>`. */
interface Acting {
  readonly layer: AdapterLayer;
  readonly values: HostTensors;
}

/** Two adapters may call what their layers share by one name. */
function sharesTensors({ state = {} }: AdapterLayer): boolean {
  return Object.values(state).some(({ shared }) => shared !== undefined);
}

/**
 * One part acts as it is; several, or one that is not alone because of what other adapters merged into its weight or call as it
 * does, act one after the other.
 */
function combined(model: Model, parts: readonly Part[], isAlone: boolean): Acting {
  const [only, ...others] = parts as readonly [Part, ...Part[]];
  if (others.length === 0 && isAlone) {
    const { layer, values } = only;
    const entries = Object.entries(values).map(([name, value]) => [tensorKey(layer, name), value] as const);
    return { layer, values: Object.fromEntries(entries) };
  }
  const frozen = frozenModule(model, only.layer.site.path);
  const beside = inOrder(parts).map((part) => besideOthers(part, frozen));
  return { layer: chained(beside), values: compositeValues(beside) };
}

function byModule(parts: readonly Part[], act: (parts: readonly Part[]) => Acting): Omit<ActingParts, 'model'> {
  const modules = new Map<string, Part[]>();
  for (const part of parts) {
    const { path } = part.layer.site;
    modules.set(path, [...(modules.get(path) ?? []), part]);
  }
  const acting = [...modules].map(([path, own]) => [path, act(own)] as const);
  return {
    layers: Object.fromEntries(acting.map(([path, { layer }]) => [path, layer])),
    values: Object.assign({}, ...acting.map(([, { values }]) => values)) as HostTensors,
  };
}

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
function besideOthers(part: Part, frozen: FrozenModule): Part {
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
function chained(parts: readonly Part[]): AdapterLayer {
  return composite(parts, inChain);
}

const inChain: Joined = (parts) => (x, p, at) =>
  parts.reduce((base, part) => () => part.layer.forward(x, ownTensors(part, p), { ...at, base }), at.base)();

/** Each row of a mixed batch by the part that its adapter has here, or by the module alone. Rows of x go through the batch first. */
function routed(parts: readonly Part[]): AdapterLayer {
  return composite(parts, byRows);
}

const byRows: Joined = (parts) => (x, p, at) => {
  const own = parts.map((part) => ({
    mask: at.ctx.rowsOf(part.adapter), // [batch, 1]
    y: part.layer.forward(x, ownTensors(part, p), at),
  }));
  const rest = own.reduce((left, { mask }) => tf.sub(left, mask), tf.onesLike((own[0] as { mask: Tensor }).mask));
  const masked = [{ mask: rest, y: at.base() }, ...own].map(({ mask, y }) => keptRows(y, mask));
  return masked.reduce((sum, y) => tf.add(sum, y));
};

/** Zeros in the rows that a mask `[batch, 1]` leaves out: y `[batch * .., features]`, or of one row for the whole batch. */
function keptRows(y: Tensor, mask: Tensor): Tensor {
  const [first = 1, ...others] = y.shape;
  const batch = mask.shape[0];
  const kept = tf.mul(tf.reshape(y, [first === 1 ? 1 : batch, -1]), mask); // [batch, ..]
  return tf.reshape(kept, [first === 1 ? batch : first, ...others]);
}

/** The values of parts as those of one composite layer, by `<path>.<adapter>/<name>`. */
function compositeValues(parts: readonly Part[]): HostTensors {
  const entries = parts.flatMap(({ adapter, layer, values }) =>
    Object.entries(values).map(([name, value]) => [tensorKey(layer, compositeName(adapter, name)), value] as const),
  );
  return Object.fromEntries(entries);
}

/** What the forwards of several parts make together. */
type Joined = (parts: readonly Part[]) => AdapterLayer['forward'];

function composite(parts: readonly Part[], joined: Joined): AdapterLayer {
  const [first] = parts as readonly [Part, ...Part[]];
  const onHead = parts.flatMap((part) => {
    const { tiedForward } = part.layer;
    return tiedForward ? [{ ...part, layer: { ...part.layer, forward: tiedForward } }] : [];
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

/** The tensors of a part among those of its composite. */
function ownTensors({ adapter, values }: Part, p: Tensors): Tensors {
  return Object.fromEntries(Object.keys(values).map((name) => [name, tensorAt(p, compositeName(adapter, name))]));
}

function compositeName(adapter: string, name: string): string {
  return `${adapter}/${name}`;
}
