import { meaningOf } from '../head.js';
import {
  activeAdapter,
  adapterNamed,
  allLayers,
  tensorKey,
  tensorNames,
  valuesOf,
  type Adapter,
  type PeftModel,
} from '../adapter/peft-model.js';
import { CheckpointError, ConfigError, UnsupportedError } from '../errors.js';
import { hostZeros, tensorAt, type HostTensors } from '../tensors.js';
import { fittingValues, readAdapter, restoreAdapter, type LoadOptions } from './pretrained.js';
import { savedModuleTensors, splitSaved, withoutPrefix, withoutTied, withPrefix } from './adapter-file.js';
import { placeColumns, placeRows, scaled } from '../adapter/factors.js';
import type { AdapterLayer } from '../contracts/method.js';

/** Which adapter is meant, and how small. */
export interface StateDictOptions {
  /** Default: the first active one. */
  readonly adapterName?: string;
}

/**
 * Returns an adapter's tensors in memory, named and oriented as adapter_model.safetensors has them (`base_model.model.<module>..`), the
 * head and `modulesToSave` among them. `pruned` says whether ranks that have vanished are left out, as `savePretrained` does. Default
 * false: what `setPeftModelStateDict` takes.
 * @throws ConfigError for an unknown adapter.
 */
export function getPeftModelStateDict(
  peft: PeftModel,
  { pruned = false, ...options }: StateDictOptions & { readonly pruned?: boolean } = {},
): HostTensors {
  const adapter = adapterOf(peft, options);
  return withPrefix({
    ...adapter.method.toFile(adapter, { pruned }).tensors,
    ...savedModuleTensors(peft.model, adapter),
  });
}

/**
 * Changes `peft` in place: an adapter gets other values, a state dict of its own shapes. Modules trained whole that it does not hold keep theirs.
 * @throws ConfigError for an unknown adapter, or one that is merged.
 * @throws CheckpointError naming the tensor that is missing, unknown or of another shape; nothing has changed then.
 */
export function setPeftModelStateDict(peft: PeftModel, tensors: HostTensors, options: StateDictOptions = {}): void {
  const adapter = adapterOf(peft, options);
  assertNotMerged(peft, adapter.name);
  const { model } = peft;
  const named = withoutPrefix(tensors);
  const { own, saved } = splitSaved(
    adapter.config.ensureWeightTying ? withoutTied(named, model) : named,
    model,
    Object.keys(adapter.saved),
  );
  const { config } = adapter.method.toFile(adapter, { pruned: false });
  const read = adapter.method.fromFile({ config, tensors: own });
  const kept = Object.entries(adapter.values).filter(([key]) => isSaved(adapter, key));
  const values = fittingValues(adapter, { ...Object.fromEntries(kept), ...read.values, ...saved }, 'the state dict');
  peft.adapters.set(adapter.name, { ...adapter, values });
}

/** @throws ConfigError while an adapter is merged: its values are then in the weights too. */
function assertNotMerged({ merged }: Pick<PeftModel, 'merged'>, name: string): void {
  if (!merged.includes(name)) return;
  throw new ConfigError(`adapter '${name}' is merged into the weights: unmerge it before you change it`, 'adapterName');
}

function adapterOf(peft: PeftModel, { adapterName }: StateDictOptions): Adapter {
  return adapterName === undefined ? activeAdapter(peft) : adapterNamed(peft, adapterName);
}

function isSaved({ saved }: Adapter, key: string): boolean {
  return Object.entries(saved).some(([path, { params }]) =>
    Object.keys(params).some((name) => key === `${path}.${name}`),
  );
}

/**
 * Changes `peft` in place: one of its LoRA adapters gets the values of another one, in a folder, without a change of any shape or
 * scaling, so that what is compiled for it goes on running. The new one adapts the same modules or some of them, with the same ranks or lower ones; they are filled up
 * with zeros, and B makes up for another scaling.
 * @throws ConfigError for an unknown adapter, or one that is merged.
 * @throws UnsupportedError when one of the two is more than A and B.
 * @throws CheckpointError when the new one has more modules or ranks, or its folder is broken; nothing has changed then.
 */
export async function hotswapAdapter(
  peft: PeftModel,
  folder: string,
  options: LoadOptions & Required<Pick<LoadOptions, 'adapterName'>>,
): Promise<void> {
  const current = adapterNamed(peft, options.adapterName);
  assertNotMerged(peft, current.name);
  const stored = await readAdapter(peft.model, folder, options);
  const incoming = restoreAdapter(peft.model, peft.seed, stored);
  assertSubset(current, incoming, stored.source);
  assertSameTokens(current, incoming, stored.source);
  const values = Object.assign(
    {},
    ...Object.values(current.layers).map((layer) => swapped(current, incoming, layer, stored.source)),
    ...Object.values(current.saved).map((layer) => savedValues(current, incoming, layer)),
  ) as HostTensors;
  peft.adapters.set(current.name, { ...current, values, ...meaningOf(incoming) });
}

function assertSubset(current: Adapter, incoming: Adapter, source: string): void {
  const known = allLayers(current);
  const extra = Object.keys(allLayers(incoming)).find((path) => !(path in known));
  if (extra === undefined) return;
  throw new CheckpointError(`${source} adapts '${extra}', which the adapter '${current.name}' does not`, extra);
}

function assertSameTokens(current: Adapter, incoming: Adapter, source: string): void {
  const [own, other] = [current, incoming].map(({ config }) => JSON.stringify(config.trainableTokenIndices ?? null));
  if (own === other) return;
  throw new CheckpointError(`${source} trains the tokens ${other}, the adapter '${current.name}' ${own}`);
}

/** The values of one layer: the incoming factors in its own ranks and scaling, or a B of zeros. */
function swapped(current: Adapter, incoming: Adapter, layer: AdapterLayer, source: string): HostTensors {
  const { path } = layer.site;
  const own = valuesOf(layer, current.values);
  const { scaling, rank } = plainFactors(layer, own);
  const [loraA, loraB] = [tensorAt(own, 'loraA'), tensorAt(own, 'loraB')];
  const key = (name: string): string => tensorKey(layer, name);
  const next = incoming.layers[path];
  if (!next) return { [key('loraA')]: loraA, [key('loraB')]: hostZeros(loraB.shape) };
  const given = plainFactors(next, valuesOf(next, incoming.values));
  if (given.rank > rank) {
    throw new CheckpointError(
      `${source}: '${path}' has rank ${given.rank}, the adapter '${current.name}' has ${rank}`,
      path,
    );
  }
  const first = Array.from({ length: given.rank }, (_, index) => index);
  const loraBInScale = scaled(given.loraB, given.scaling / scaling);
  return {
    [key('loraA')]: placeColumns(given.loraA, first, rank),
    [key('loraB')]: placeRows(loraBInScale, first, rank),
  };
}

/** A, B and the scaling of a layer that is nothing else. @throws UnsupportedError when it is. */
function plainFactors(layer: AdapterLayer, values: HostTensors) {
  const isPlain = layer.toLora && !layer.frozenWeight && !layer.mergedBias;
  if (!isPlain || !layer.toLora || tensorNames(layer).sort().join() !== 'loraA,loraB') {
    const { path } = layer.site;
    throw new UnsupportedError(`hot swapping needs plain LoRA; the adapter of '${path}' is more than A and B`, path);
  }
  const factors = layer.toLora(values);
  return { ...factors, rank: factors.loraA.shape[1] as number };
}

function savedValues(current: Adapter, incoming: Adapter, layer: AdapterLayer): HostTensors {
  const { path } = layer.site;
  const from = path in incoming.saved ? incoming.values : current.values;
  return Object.fromEntries(
    tensorNames(layer).map((name) => [tensorKey(layer, name), tensorAt(from, tensorKey(layer, name))]),
  );
}
