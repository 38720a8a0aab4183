import { warnOnce } from '../config.js';
import { CheckpointError, ConfigError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, ConfiguredMethod, FrozenModule, TargetConfig } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { meaningOf } from '../head.js';
import { actingParts, inOrder, partOf, type Part } from './acting.js';
import { frozenModule, newAdapter, type AttachOptions } from './attach.js';
import { adapterNamed, type Adapter, type PeftModel } from './peft-model.js';
import { loraDelta } from './factors.js';
import { isQuantized } from '../quantized.js';
import { floats, hostTensor, type HostTensor, type HostTensors } from '../tensors.js';

/*
 * Several adapters on one model, with PEFT's verbs. Each is refused before anything has changed.
 */

/**
 * Changes `peft` in place: one more adapter stands beside those that are there. It does not act until `setAdapter` says so.
 * @throws ConfigError when the name is taken or no folder name.
 * @throws TargetModuleError when the configuration matches no module.
 */
export function addAdapter<C extends TargetConfig>(
  peft: PeftModel,
  configured: ConfiguredMethod<C>,
  options: AttachOptions & Required<Pick<AttachOptions, 'adapterName'>>,
): void {
  insertAdapter(peft, newAdapter(peft.model, configured, { seed: peft.seed, ...options }));
}

/** Changes `peft` in place: an adapter that is made already stands beside the others. @throws ConfigError when its name is taken. */
export function insertAdapter(peft: PeftModel, adapter: Adapter): void {
  assertFreeName(peft, adapter.name);
  peft.adapters.set(adapter.name, adapter);
}

/** @throws ConfigError when an adapter has that name. */
export function assertFreeName({ adapters }: Pick<PeftModel, 'adapters'>, name: string): void {
  if (!adapters.has(name)) return;
  throw new ConfigError(`there is an adapter '${name}' already: delete it first or take another name`, 'adapterName');
}

/**
 * Changes `peft` in place: these adapters act, in this order, and no others; the first of them is the one that is trained, and whose head is
 * used. What is merged is taken out of the weights, with a warning.
 * @throws ConfigError for an unknown name, or when two of them train the same module whole or its bias.
 */
export function setAdapter(peft: PeftModel, names: string | readonly string[]): void {
  const active = typeof names === 'string' ? [names] : [...new Set(names)];
  for (const name of active) adapterNamed(peft, name);
  actingParts({ ...peft, active, merged: [], mergedWeights: {} });
  if (peft.merged.length > 0) {
    warnOnce(`setAdapter takes the merged adapters out of the weights: ${peft.merged.join(', ')}`);
    unmergeAdapter(peft);
  }
  peft.active = active;
}

/**
 * Changes `peft` in place: an adapter is taken off. Where it was the last active one, the first of those left acts in its place, with a
 * warning; without any the model is the frozen one.
 * @throws ConfigError for an unknown name, or while it is merged.
 */
export function deleteAdapter(peft: PeftModel, name: string): void {
  adapterNamed(peft, name);
  if (peft.merged.includes(name)) {
    throw new ConfigError(
      `adapter '${name}' is merged into the weights: unmerge it before you delete it`,
      'adapterName',
    );
  }
  peft.adapters.delete(name);
  const active = peft.active.filter((each) => each !== name);
  const [next] = peft.adapters.keys();
  if (active.length > 0 || peft.active.length === 0 || next === undefined) peft.active = active;
  else {
    warnOnce(`adapter '${name}', which is deleted, was active; '${next}' is now`);
    peft.active = [next];
  }
}

/**
 * Changes `peft` in place while `scope` runs: no adapter acts, merged ones included; afterwards everything is as it was before.
 * @returns what `scope` returns
 */
export async function disableAdapter<T>(peft: PeftModel, scope: () => T | Promise<T>): Promise<T> {
  const before = peft.enabled;
  peft.enabled = false;
  try {
    return await scope();
  } finally {
    peft.enabled = before;
  }
}

/** Returns the model without its adapters, as it was before `attach`. */
export function unload({ model }: PeftModel): Model {
  return model;
}

/** Which adapters are folded into the weights, and how carefully. */
export interface MergeOptions {
  /** Refuse a merged weight that is not finite, before anything has changed. Default true. */
  readonly safeMerge?: boolean;
  /** Default: the active ones. */
  readonly adapterNames?: readonly string[];
}

/**
 * Changes `peft` in place: adapters are folded into the weights that it runs with, W0 + dW and the new biases. They cost nothing from
 * then on; the frozen weights are kept, and `unmergeAdapter` gives them back bit by bit. The head stays the active adapter's. Merging what
 * is merged does nothing, with a warning.
 * @throws ConfigError for an unknown name, or when two adapters train one module whole or its bias.
 * @throws UnsupportedError when a method cannot be merged, or the weights are held in 8 bits: see `fullPrecision`.
 * @throws CheckpointError when a merged weight is not finite.
 */
export function mergeAdapter(peft: PeftModel, { safeMerge = true, adapterNames }: MergeOptions = {}): void {
  const wanted = [...new Set(adapterNames ?? peft.active)];
  const fresh = wanted.map((name) => adapterNamed(peft, name).name).filter((name) => !peft.merged.includes(name));
  if (fresh.length === 0) {
    warnOnce(`mergeAdapter: ${wanted.join(', ') || 'no adapter'}: merged already, nothing is done`);
    return;
  }
  const merged = [...peft.merged, ...fresh];
  peft.mergedWeights = foldedWeights(peft.model, layersOf(peft, merged), safeMerge);
  peft.merged = merged;
}

/** Changes `peft` in place: every merged adapter is taken out of the weights again. */
export function unmergeAdapter(peft: PeftModel): void {
  if (peft.merged.length === 0) warnOnce('unmergeAdapter: no adapter is merged, nothing is done');
  peft.merged = [];
  peft.mergedWeights = {};
}

/**
 * Returns a new network with adapters folded into its weights: W0 + dW and the new bias at every adapted module, and the head,
 * `modulesToSave` and labels of the first active one; `peft` stays as it is.
 * @throws what `mergeAdapter` throws.
 */
export function mergeAndUnload(peft: PeftModel, { safeMerge = true, adapterNames }: MergeOptions = {}): Model {
  const names = [...new Set([...peft.merged, ...(adapterNames ?? peft.active)])];
  const [first] = peft.active;
  const headOf = first === undefined ? undefined : adapterNamed(peft, first);
  const folded = foldedWeights(peft.model, [...(headOf ? savedOf(headOf) : []), ...layersOf(peft, names)], safeMerge);
  const { model } = peft;
  const untied = (model.tied ?? []).filter(({ site }) => `${site.path}.weight` in folded);
  return {
    ...model,
    ...(untied.length > 0 && {
      sites: [...model.sites, ...untied.map(({ site }) => site)],
      tied: model.tied?.filter((each) => !untied.includes(each)) ?? [],
    }),
    weights: { ...model.weights, ...folded },
    pretrainedHead: true,
    ...(headOf && meaningOf(headOf)),
  };
}

/** Returns the change of a layer's weight, `[in, out]`. @throws UnsupportedError when the layer does not have one. */
export function deltaWeight(model: Model, layer: AdapterLayer, values: HostTensors): Float32Array {
  return weightChange(layer, values, frozenModule(model, layer.site.path));
}

/** A module's weight and bias with one layer of an adapter folded in. @throws UnsupportedError when that is no change of them. */
export function mergedModule(model: Model, layer: AdapterLayer, values: HostTensors): FrozenModule {
  return foldedInto(frozenModule(model, layer.site.path), { layer, values });
}

/** What is folded of some adapters. @throws UnsupportedError when one of them cannot be merged. */
function layersOf(peft: PeftModel, names: readonly string[]): Part[] {
  return names.flatMap((name) => {
    const adapter = adapterNamed(peft, name);
    const { method, layers } = adapter;
    if (!method.capabilities.mergeable) {
      throw new UnsupportedError(`${method.name} cannot be merged: it is more than a change of weights`);
    }
    return Object.values(layers).map((layer) => partOf(adapter, layer));
  });
}

function savedOf(adapter: Adapter): Part[] {
  return Object.values(adapter.saved).map((layer) => partOf(adapter, layer));
}

/**
 * Returns a new model with the same adapters on the network's own float32 weights, read anew where they are held in 8 bits: what an
 * adapter trained beside rounded weights is merged into. `peft` stays as it is, whatever is done with the other one.
 * @example
 * const merged = mergeAndUnload(await fullPrecision(peft));
 */
export async function fullPrecision(peft: PeftModel): Promise<PeftModel> {
  const { model, adapters } = peft;
  return { ...peft, model: (await model.fullPrecision?.()) ?? model, adapters: new Map(adapters) };
}

/** @throws UnsupportedError for a weight in 8 bits: to add to it would round the adapter as well. */
function assertWhole({ weight }: FrozenModule, path: string): void {
  if (!isQuantized(weight)) return;
  throw new UnsupportedError(
    `'${path}' is held in 8 bits, and adapters are merged into float32 weights: merge \`await fullPrecision(peft)\``,
    path,
  );
}

/** The changed weights and biases, by name. @throws CheckpointError when one is not finite. */
function foldedWeights(model: Model, parts: readonly Part[], safeMerge: boolean): HostTensors {
  const weights: HostTensors = {};
  for (const path of new Set(parts.map(({ layer }) => layer.site.path))) {
    const own = inOrder(parts.filter(({ layer }) => layer.site.path === path));
    const frozen = frozenModule(model, path);
    assertWhole(frozen, path);
    const folded = own.reduce<FrozenModule>(foldedInto, frozen);
    if (safeMerge) assertFinite(folded, path);
    weights[`${path}.weight`] = folded.weight;
    if (folded.bias) weights[`${path}.bias`] = folded.bias;
  }
  return { ...untiedHeads(model, parts), ...weights };
}

/** The weights of heads whose tables are changed and they are not: from then on they have their own. */
function untiedHeads(model: Model, parts: readonly Part[]): HostTensors {
  const isLeftBehind = ({ layer }: Part): boolean => !layer.replacesModule && !layer.tiedForward;
  const left = (model.tied ?? []).filter(({ table }) =>
    parts.some((part) => part.layer.site.path === table && isLeftBehind(part)),
  );
  return Object.fromEntries(
    left.map(({ site }) => [`${site.path}.weight`, frozenModule(model, site.path).weight] as const),
  );
}

/** A module's weight and bias with one more layer folded in. */
function foldedInto(module: FrozenModule, { layer, values }: Pick<Part, 'layer' | 'values'>): FrozenModule {
  const bias = layer.mergedBias?.(values, module) ?? module.bias;
  const changesWeight = layer.toLora ?? layer.deltaWeight ?? !layer.mergedBias;
  const weight = changesWeight ? addedTo(module.weight, weightChange(layer, values, module)) : module.weight;
  return bias ? { weight, bias } : { weight };
}

function weightChange(layer: AdapterLayer, values: HostTensors, module: FrozenModule): Float32Array {
  if (layer.toLora) return loraDelta(layer.toLora(values));
  if (layer.deltaWeight) return layer.deltaWeight(values, module);
  throw new UnsupportedError(`the adapter of '${layer.site.path}' is no change of a weight`, layer.site.path);
}

function addedTo(weight: HostTensor, delta: Float32Array): HostTensor {
  return hostTensor(
    floats(weight).map((value, index) => value + (delta[index] as number)),
    weight.shape,
  ); // [in, out]
}

function assertFinite({ weight, bias }: FrozenModule, path: string): void {
  if ([weight, ...(bias ? [bias] : [])].every((tensor) => floats(tensor).every(Number.isFinite))) return;
  throw new CheckpointError(
    `the merged weight of '${path}' is not finite; the adapter is broken, nothing was merged`,
    path,
  );
}
