import * as v from 'valibot';
import { assertArgument, parseOptions, warnOnce } from '../config.js';
import { CheckpointError, ConfigError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, FrozenModule } from '../contracts/layer.js';
import type { ConfiguredMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { isInHead, outputMeaning, outputsOf, type OutputMeaning } from '../head.js';
import { aFunction, aText, aTextList } from '../kinds.js';
import { activeParts, inOrder, layerParts, savedParts, tiedForwardOf, type Part } from './active-parts.js';
import { frozenModule, newAdapter, type AttachOptions } from './attach.js';
import { aPeftModel, adapterNamed, type Adapter, type PeftModel } from './peft-model.js';
import { loraDelta } from '../ranks/factors.js';
import { isQuantized } from '../quantized.js';
import { floats, grouped, mapTensor, mapValues, transposed, type HostTensors } from '../tensors.js';

/* Several adapters on one model, with PEFT's verbs. Each function validates before it changes anything. */

/**
 * Adds an adapter to `peft`, in place. It stays inactive until `setAdapter` activates it.
 * @throws ConfigError when the name is in use or is no valid folder name.
 * @throws TargetModuleError when the configuration matches no module.
 */
export function addAdapter(
  peft: PeftModel,
  configured: ConfiguredMethod,
  options: AttachOptions & Required<Pick<AttachOptions, 'adapterName'>>,
): void {
  assertArgument('peft', peft, aPeftModel);
  insertAdapter(peft, newAdapter(peft.model, configured, { seed: peft.seed, ...options }));
}

/** Adds an existing adapter to `peft`, in place. @throws ConfigError when its name is in use. */
export function insertAdapter(peft: PeftModel, adapter: Adapter): void {
  assertFreeName(peft, adapter.name);
  peft.adapters.set(adapter.name, adapter);
}

/** Checks that a name is free. @throws ConfigError when an adapter has it. */
export function assertFreeName({ adapters }: Pick<PeftModel, 'adapters'>, name: string): void {
  if (!adapters.has(name)) return;
  throw new ConfigError(`adapter '${name}' already exists: delete it first or use another name`, 'adapterName');
}

const aNameOrNames = v.custom<string | readonly string[]>(
  (value) => typeof value === 'string' || v.is(aTextList, value),
  "an adapter's name or a list of names",
);

/**
 * Activates these adapters and no others, in this order; changes `peft` in place. The first one is trained, and its
 * head is used. Merged adapters are unmerged, with a warning.
 * @throws ConfigError for an unknown name, or when two of them train the same module in full or its bias.
 * @throws UnsupportedError when one of them cannot be combined with the others.
 */
export function setAdapter(peft: PeftModel, names: string | readonly string[]): void {
  assertArgument('names', names, aNameOrNames);
  const active = typeof names === 'string' ? [names] : [...new Set(names)];
  for (const name of active) adapterNamed(peft, name);
  activeParts(peft.merged.length === 0 ? { ...peft, active } : { ...peft, active, merged: [], mergedWeights: {} });
  if (peft.merged.length > 0) {
    warnOnce(`setAdapter unmerges the merged adapters: ${peft.merged.join(', ')}`);
    unmergeAdapter(peft);
  }
  peft.active = active;
}

/**
 * Removes an adapter from `peft`, in place. If it was the only active one, the first of those left becomes active, with
 * a warning; if none is left, the model is the frozen one.
 * @throws ConfigError for an unknown name, or while it is merged.
 */
export function deleteAdapter(peft: PeftModel, name: string): void {
  assertArgument('name', name, aText);
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
    warnOnce(`deleted the active adapter '${name}'; '${next}' is active now`);
    peft.active = [next];
  }
}

/** The scopes that disable a model's adapters now, and whether they were enabled before the first. */
const disabling = new WeakMap<PeftModel, { scopes: number; readonly before: boolean }>();

/**
 * Disables all adapters of `peft`, merged ones included, while `scope` runs, and restores the state afterwards: after
 * the last one, if several run at a time.
 * @returns the result of `scope`
 */
export async function disableAdapter<T>(peft: PeftModel, scope: () => T | Promise<T>): Promise<T> {
  assertArgument('peft', peft, aPeftModel);
  assertArgument('scope', scope, aFunction);
  const state = disabling.get(peft) ?? { scopes: 0, before: peft.enabled };
  disabling.set(peft, state);
  state.scopes++;
  peft.enabled = false;
  try {
    return await scope();
  } finally {
    if (--state.scopes === 0) {
      disabling.delete(peft);
      peft.enabled = state.before;
    }
  }
}

/** Returns the model without its adapters, as it was before `attach`. */
export function unload(peft: PeftModel): Model {
  assertArgument('peft', peft, aPeftModel);
  return peft.model;
}

/** Options of merging. */
export interface MergeOptions {
  /** Whether to reject a merged weight that is not finite before anything changes. Default true. */
  readonly safeMerge?: boolean;
  /** Names of the adapters to merge. Default: the active ones. */
  readonly adapterNames?: readonly string[];
}

const mergeEntries = {
  safeMerge: v.optional(v.boolean(), true),
  adapterNames: v.optional(aTextList),
} satisfies Record<keyof MergeOptions, unknown>;

/**
 * Merges adapters into the weights that `peft` computes with, W0 + dW and the new biases, in place; they then cost no
 * extra time. The frozen weights are kept, and `unmergeAdapter` restores them bit by bit. The head stays the active
 * adapter's. Merging an adapter twice does nothing, with a warning.
 * @throws ConfigError for an unknown name, or when two adapters train one module in full or its bias.
 * @throws UnsupportedError when a method cannot be merged, when it cannot be merged apart from another active adapter,
 * or when the weights are held in 8 or 4 bits: see `fullPrecision`.
 * @throws CheckpointError with `safeMerge`, when a merged weight is not finite.
 */
export function mergeAdapter(peft: PeftModel, options: MergeOptions = {}): void {
  assertArgument('peft', peft, aPeftModel);
  const { safeMerge, adapterNames } = parseOptions('mergeAdapter', mergeEntries, options);
  const wanted = [...new Set(adapterNames ?? peft.active)];
  const fresh = wanted.map((name) => adapterNamed(peft, name).name).filter((name) => !peft.merged.includes(name));
  if (fresh.length === 0) {
    warnOnce(`mergeAdapter: ${wanted.join(', ') || 'no adapter'}: already merged, nothing done`);
    return;
  }
  const merged = [...peft.merged, ...fresh];
  assertSeparable(peft, merged);
  peft.mergedWeights = foldedWeights(peft.model, layersOf(peft, merged), safeMerge);
  peft.merged = merged;
}

/**
 * Checks that merging some of the active adapters keeps the outputs: a merged adapter acts before all others, so at a
 * module that several change, it must not matter which acts first. @throws UnsupportedError if it does.
 */
function assertSeparable(peft: PeftModel, merged: readonly string[]): void {
  const active = peft.active.map((name) => adapterNamed(peft, name));
  const parts = [...active.slice(0, 1).flatMap(savedParts), ...active.flatMap(layerParts)];
  const isMerged = ({ adapter, layer }: Part): boolean =>
    merged.includes(adapter) && adapterNamed(peft, adapter).layers[layer.site.path] === layer;
  for (const part of parts.filter(isMerged)) {
    const { path } = part.layer.site;
    const isAtSame = ({ layer }: Part): boolean =>
      layer.site.path === path ||
      actsOnHead(peft.model, layer, path) ||
      actsOnHead(peft.model, part.layer, layer.site.path);
    const others = parts.filter((each) => !isMerged(each) && isAtSame(each));
    const other = others.find(({ layer }) => !canSwap(part.layer, layer));
    if (!other) continue;
    throw new UnsupportedError(
      `'${path}': '${part.adapter}' cannot be merged apart from '${other.adapter}', which also changes this module; use mergeAndUnload, or activate one of them`,
      path,
    );
  }
}

/**
 * Whether two layers of a module surely give the same output in both orders: each adds a change, not both to the bias.
 */
function canSwap(a: AdapterLayer, b: AdapterLayer): boolean {
  const justAdds = ({ toLora, isIndependent = toLora !== undefined, deltaWeight, mergedBias }: AdapterLayer): boolean =>
    isIndependent || (deltaWeight === undefined && mergedBias !== undefined);
  return justAdds(a) && justAdds(b) && !(a.mergedBias && b.mergedBias);
}

/** Takes every merged adapter out of the weights again; changes `peft` in place. */
export function unmergeAdapter(peft: PeftModel): void {
  assertArgument('peft', peft, aPeftModel);
  if (peft.merged.length === 0) {
    warnOnce('unmergeAdapter: no adapter is merged, nothing done');
    return;
  }
  peft.merged = [];
  peft.mergedWeights = {};
}

/**
 * Returns a new network with adapters merged into its weights: W0 + dW and the new bias at every adapted module, and
 * the head, `modulesToSave` and labels of the first active adapter. Adapters that `mergeAdapter` has merged are always
 * included. `peft` is not changed.
 * @throws the errors of `mergeAdapter`.
 */
export function mergeAndUnload(peft: PeftModel, options: MergeOptions = {}): Model {
  assertArgument('peft', peft, aPeftModel);
  const { safeMerge, adapterNames } = parseOptions('mergeAndUnload', mergeEntries, options);
  const names = [...new Set([...peft.merged, ...(adapterNames ?? peft.active)])];
  const [first] = peft.active;
  const headOf = first === undefined ? undefined : adapterNamed(peft, first);
  const folded = foldedWeights(
    peft.model,
    [...(headOf ? savedParts(headOf) : []), ...layersOf(peft, names)],
    safeMerge,
  );
  const { temperature: _, ...meaning } = headOf ? outputMeaning(headOf) : {};
  return withMerged(peft.model, folded, { pretrainedHead: true, ...meaning });
}

/**
 * Returns a model with merged weights. The models that it makes of itself get them too, but one with another number of
 * outputs only those outside the head. All models with other labels are made from the first one, whose head is merged.
 */
function withMerged(
  { ...model }: Model, // read once: a fingerprint may be computed when it is read
  folded: HostTensors,
  meaning: OutputMeaning & Pick<Model, 'pretrainedHead'> = {},
): Model {
  const { fullPrecision, withLabels } = model;
  const untied = (model.tied ?? []).filter(({ site }) => `${site.path}.weight` in folded);
  const below = Object.fromEntries(Object.entries(folded).filter(([name]) => !isInHead(model, name)));
  const whole: Model = {
    ...model,
    ...(untied.length > 0 && {
      sites: [...model.sites, ...untied.map(({ site }) => site)],
      tied: model.tied?.filter((each) => !untied.includes(each)) ?? [],
    }),
    ...(Object.keys(folded).length > 0 && { isMerged: true, fingerprint: mergedFingerprint(model, folded) }),
    weights: { ...model.weights, ...folded },
    ...meaning,
    ...(fullPrecision && { fullPrecision: async () => withMerged(await fullPrecision(), folded, meaning) }),
  };
  if (!withLabels) return whole;
  const relabel: typeof withLabels = (...wanted) => {
    const other = withLabels(...wanted);
    const isSame = outputsOf(other) === outputsOf(model);
    const merged = isSame ? withMerged(other, folded, { pretrainedHead: true }) : withMerged(other, below);
    return { ...merged, withLabels: relabel };
  };
  return { ...whole, withLabels: relabel };
}

/** Extends a fingerprint by a 64-bit hash of the merged weights. SHA-256 is only available asynchronously. */
function mergedFingerprint({ fingerprint }: Model, folded: HostTensors): string {
  let [a, b] = [0, 0];
  for (const [name, { data }] of Object.entries(folded)) {
    const bits = new Int32Array(data.buffer, data.byteOffset, data.length);
    for (const words of [new TextEncoder().encode(name), bits]) {
      for (const word of words) {
        a = Math.imul(a ^ word, 0x9e3779b1);
        b = Math.imul(b ^ word, 0x85ebca77);
        [a, b] = [a ^ (a >>> 15), b ^ (b >>> 13)]; // a word's highest bit would otherwise reach no other bit
      }
    }
  }
  return `${fingerprint}+${[a, b].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('')}`;
}

/**
 * Returns a module's weight and bias with one adapter layer merged. @throws UnsupportedError when it cannot be merged.
 */
export function mergedModule(model: Model, layer: AdapterLayer, values: HostTensors): FrozenModule {
  return foldedInto(frozenModule(model, layer.site.path), { layer, values });
}

/** Returns the layers to merge for some adapters. @throws UnsupportedError when one of them cannot be merged. */
function layersOf(peft: PeftModel, names: readonly string[]): Part[] {
  return names.flatMap((name) => {
    const adapter = adapterNamed(peft, name);
    const { method } = adapter;
    if (!method.capabilities.mergeable) {
      throw new UnsupportedError(`${method.name} cannot be merged: it does more than change weights`);
    }
    return layerParts(adapter);
  });
}

/**
 * Returns a new model with the same adapters on the network's original float32 weights, which are read again where they
 * are held in 8 or 4 bits. Merge an adapter into these if it was trained on rounded weights. `peft` is not changed, now
 * or later.
 * @example
 * const merged = mergeAndUnload(await fullPrecision(peft));
 */
export async function fullPrecision(peft: PeftModel): Promise<PeftModel> {
  assertArgument('peft', peft, aPeftModel);
  const model = await peft.model.fullPrecision?.();
  if (!model) return { ...peft, adapters: new Map(peft.adapters) };
  const moved = Array.from(peft.adapters, ([name, adapter]) => {
    const layers = mapValues(adapter.layers, (layer, path) => layer.onModule?.(frozenModule(model, path)) ?? layer);
    return [name, { ...adapter, layers }] as const;
  });
  return { ...peft, model, adapters: new Map(moved) };
}

/**
 * Rejects a weight in few bits: adding to it would round the adapter too. @throws UnsupportedError for such a weight.
 */
function assertWhole({ weight }: FrozenModule, path: string): void {
  if (!isQuantized(weight)) return;
  throw new UnsupportedError(
    `'${path}' is held in ${weight.bits} bits, and adapters are merged into float32 weights: merge \`await fullPrecision(peft)\``,
    path,
  );
}

/** Returns the changed weights and biases, by name. @throws the errors of `mergeAdapter`. */
function foldedWeights(model: Model, parts: readonly Part[], safeMerge: boolean): HostTensors {
  const weights: HostTensors = {};
  for (const [path, own] of grouped(parts, ({ layer }) => layer.site.path)) {
    const ordered = inOrder(own);
    const frozen = moduleBefore(model, path, parts);
    assertWhole(frozen, path);
    const folded = ordered.reduce<FrozenModule>(foldedInto, frozen);
    if (safeMerge) assertFinite(folded, path);
    Object.assign(weights, weightsOf(path, folded));
  }
  return { ...untiedHeads(model, parts), ...weights };
}

/** Returns the weight and the bias of a module by their names in a model. */
export function weightsOf(path: string, { weight, bias }: FrozenModule): HostTensors {
  return { [`${path}.weight`]: weight, ...(bias && { [`${path}.bias`]: bias }) };
}

/** Returns own weights for tied heads that some layer of their table does not act on. */
function untiedHeads(model: Model, parts: readonly Part[]): HostTensors {
  const left = (model.tied ?? []).filter(({ table }) =>
    parts.some(({ layer }) => layer.site.path === table && !tiedForwardOf(layer)),
  );
  return Object.fromEntries(
    left.map(({ site }) => [`${site.path}.weight`, moduleBefore(model, site.path, parts).weight] as const),
  );
}

/**
 * Returns what a module's own layers change: the frozen module, or a tied head with those layers of its table merged
 * that act on it.
 */
function moduleBefore(model: Model, path: string, parts: readonly Part[]): FrozenModule {
  const shared = parts.filter(({ layer }) => actsOnHead(model, layer, path));
  const [first] = shared;
  const ignores = parts.some(({ layer }) => layer.site.path === path && layer.ignoresBase);
  if (!first || ignores) return frozenModule(model, path);
  const table = frozenModule(model, first.layer.site.path);
  return { weight: transposed(inOrder(shared).reduce<FrozenModule>(foldedInto, table).weight) };
}

/** Whether a table's layer also acts on the tied head at `path`. */
function actsOnHead({ tied = [] }: Model, layer: AdapterLayer, path: string): boolean {
  const isTied = tied.some(({ site, table }) => site.path === path && table === layer.site.path);
  return isTied && tiedForwardOf(layer) !== undefined;
}

/** Returns a module's weight and bias with one more layer merged. */
function foldedInto(module: FrozenModule, { layer, values }: Pick<Part, 'layer' | 'values'>): FrozenModule {
  const { bias: before } = module;
  const bias = layer.mergedBias?.(values, module) ?? (before && layer.mergedAddedBias?.(values, before)) ?? before;
  const changesWeight = layer.toLora ?? layer.deltaWeight ?? !layer.mergedBias;
  const delta = changesWeight && weightChange(layer, values, module); // [in, out]
  const weight = delta ? mapTensor(module.weight, (value, index) => value + (delta[index] as number)) : module.weight;
  return bias ? { weight, bias } : { weight };
}

function weightChange(layer: AdapterLayer, values: HostTensors, module: FrozenModule): Float32Array {
  if (layer.toLora) return loraDelta(layer.toLora(values));
  if (layer.deltaWeight) return layer.deltaWeight(values, module);
  throw new UnsupportedError(`the adapter of '${layer.site.path}' does not change a weight`, layer.site.path);
}

function assertFinite({ weight, bias }: FrozenModule, path: string): void {
  if ([weight, ...(bias ? [bias] : [])].every((tensor) => floats(tensor).every(Number.isFinite))) return;
  throw new CheckpointError(
    `the merged weight of '${path}' is not finite; the adapter is broken, nothing was merged`,
    path,
  );
}
