import * as v from 'valibot';
import { assertArgument, parseOptions } from '../config.js';
import { outputMeaning } from '../head.js';
import { aText, namedTensors } from '../kinds.js';
import {
  adapterNamed,
  initialValues,
  replaceAdapter,
  tensorKey,
  tensorNames,
  valuesIn,
  valuesOf,
  type Adapter,
  type PeftModel,
} from '../adapter/peft-model.js';
import { CheckpointError, ConfigError, UnsupportedError } from '../errors.js';
import { hostZeros, tensorAt, type HostTensor, type HostTensors } from '../tensors.js';
import { assertLoadOptions, checkedValues, readAdapter, restoreAdapter, type LoadOptions } from './pretrained.js';
import { savedModuleTensors, splitSaved, withoutPrefix, withPrefix } from './adapter-tensors.js';
import { placeColumns, placeRows, scaled } from '../ranks/factors.js';
import type { AdapterLayer } from '../contracts/layer.js';

/** Options that name an adapter. */
export interface StateDictOptions {
  /** The adapter's name. Default: the first active one. */
  readonly adapterName?: string;
}

const entries = { adapterName: v.optional(aText) } satisfies Record<keyof StateDictOptions, unknown>;

/**
 * Returns an adapter's tensors with the names and orientation of adapter_model.safetensors
 * (`base_model.model.<module>..`), including the head and `modulesToSave`. `pruned` leaves out pruned ranks, as
 * `savePretrained` does. Default false, the form that `setPeftModelStateDict` reads.
 * @throws ConfigError for an unknown adapter.
 */
export function getPeftModelStateDict(
  peft: PeftModel,
  options: StateDictOptions & { readonly pruned?: boolean } = {},
): HostTensors {
  const ownEntries = { ...entries, pruned: v.optional(v.boolean(), false) };
  const { pruned, adapterName } = parseOptions('getPeftModelStateDict', ownEntries, options);
  const adapter = adapterNamed(peft, adapterName);
  return withPrefix({
    ...adapter.method.toFile(adapter, { pruned }).tensors,
    ...savedModuleTensors(peft.model, adapter),
  });
}

/**
 * Replaces an adapter's values by a state dict of the same shapes; changes `peft` in place. Modules trained in full
 * that it does not hold keep their values.
 * @throws ConfigError for an unknown adapter, or one that is merged.
 * @throws CheckpointError naming the tensor that is missing, unknown or of another shape; nothing has changed then.
 */
export function setPeftModelStateDict(peft: PeftModel, tensors: HostTensors, options: StateDictOptions = {}): void {
  assertArgument('tensors', tensors, namedTensors);
  const adapter = adapterNamed(peft, parseOptions('setPeftModelStateDict', entries, options).adapterName);
  assertNotMerged(peft, adapter.name);
  const { model } = peft;
  const names = Object.keys(adapter.saved);
  const { own, saved } = splitSaved(withoutPrefix(tensors), model, names, adapter.config.ensureWeightTying === true);
  const present = adapter.method.toFile(adapter, { pruned: false });
  const read = adapter.method.fromFile({ ...present, tensors: own }).values;
  const constants = adapter.method.fromFile(present).values; // such as A0 and B0 of a rounded weight; and the values
  const isConstant = ([key, { data }]: [string, HostTensor]): boolean =>
    !(key in adapter.values) && constants[key]?.data.every((value, index) => value === data[index]) === true;
  const given = Object.entries(read).filter((entry) => !isConstant(entry));
  const kept = valuesIn(adapter.saved, adapter.values);
  const values = checkedValues(adapter, { ...kept, ...Object.fromEntries(given), ...saved }, 'the state dict');
  replaceAdapter(peft, { values }, adapter.name);
}

/**
 * Checks that an adapter is not merged, because its values are then in the weights too. @throws ConfigError when it is.
 */
function assertNotMerged({ merged }: Pick<PeftModel, 'merged'>, name: string): void {
  if (!merged.includes(name)) return;
  throw new ConfigError(`adapter '${name}' is merged into the weights: unmerge it before you change it`, 'adapterName');
}

/**
 * Replaces the values of a LoRA adapter by those of another one in a folder; changes `peft` in place. No shape or
 * scaling changes, so compiled programs keep running. The new adapter must adapt the same modules or some of them, with
 * the same ranks or lower ones. Lower ranks are padded with zeros, and another scaling is multiplied into B.
 * @throws ConfigError for an unknown adapter, or one that is merged; or changed or deleted while the folder is read.
 * @throws UnsupportedError when one of the two is more than A and B, or only the present one has the scaling 0.
 * @throws CheckpointError when the new one has more modules or ranks or trains other tokens, or its folder is broken;
 * nothing has changed then.
 */
export async function hotswapAdapter(
  peft: PeftModel,
  folder: string,
  options: LoadOptions & Required<Pick<LoadOptions, 'adapterName'>>,
): Promise<void> {
  assertLoadOptions('hotswapAdapter', options);
  const current = adapterNamed(peft, options.adapterName);
  assertNotMerged(peft, current.name);
  const stored = await readAdapter(peft.model, folder, options);
  assertNotMerged(peft, current.name);
  if (peft.adapters.get(current.name) !== current) {
    throw new ConfigError(`adapter '${current.name}' was changed or deleted while ${folder} was read`, 'adapterName');
  }
  const incoming = restoreAdapter(peft.model, peft.seed, stored);
  assertSubset(current, incoming, stored.source);
  assertSameTokens(current, incoming, stored.source);
  const values = Object.assign(
    {},
    ...Object.values(current.layers).map((layer) => swapped(current, incoming, layer, stored.source)),
    ...Object.entries(current.saved).map(([path, layer]) =>
      path in incoming.saved ? valuesIn({ [path]: layer }, incoming.values) : initialValues({ [path]: layer }),
    ),
  ) as HostTensors;
  const { labels: _, problemType: __, temperature: ___, isChat: ____, ...kept } = current;
  peft.adapters.set(current.name, { ...kept, values, ...outputMeaning(incoming) });
}

function assertSubset(current: Adapter, incoming: Adapter, source: string): void {
  const more = (part: 'layers' | 'saved'): string | undefined =>
    Object.keys(incoming[part]).find((path) => !(path in current[part]));
  const [adapted, whole] = [more('layers'), more('saved')];
  if (adapted === undefined && whole === undefined) return;
  const does = adapted === undefined ? `trains '${whole}' in full` : `adapts '${adapted}'`;
  throw new CheckpointError(`${source} ${does}, which the adapter '${current.name}' does not`, adapted ?? whole);
}

function assertSameTokens(current: Adapter, incoming: Adapter, source: string): void {
  const [own, other] = [current, incoming].map(({ config }) => JSON.stringify(config.trainableTokenIndices ?? null));
  if (own === other) return;
  throw new CheckpointError(`${source} trains the tokens ${other}, the adapter '${current.name}' ${own}`);
}

/** Returns the values of one layer: the incoming factors in this layer's rank and scaling, or a B of zeros. */
function swapped(current: Adapter, incoming: Adapter, layer: AdapterLayer, source: string): HostTensors {
  const { path } = layer.site;
  const own = valuesOf(layer, current.values);
  const next = incoming.layers[path];
  const given = next && hasRanks(next) ? plainFactors(next, valuesOf(next, incoming.values)) : undefined;
  const { scaling, rank } = hasRanks(layer) ? plainFactors(layer, own) : { scaling: 1, rank: 0 };
  if (given && given.rank > rank) {
    throw new CheckpointError(
      `${source}: '${path}' has rank ${given.rank}, the adapter '${current.name}' has ${rank}`,
      path,
    );
  }
  if (rank === 0) return {};
  const [loraA, loraB] = [tensorAt(own, 'loraA'), tensorAt(own, 'loraB')];
  const key = (name: string): string => tensorKey(layer, name);
  if (!given) return { [key('loraA')]: loraA, [key('loraB')]: hostZeros(loraB.shape) };
  const first = Array.from({ length: given.rank }, (_, index) => index);
  if (scaling === 0 && given.scaling !== 0) {
    throw new UnsupportedError(
      `'${path}' of the adapter '${current.name}' has the scaling 0, so no B gives it the change of ${source}: use loadAdapter`,
      path,
    );
  }
  const loraBInScale = scaled(given.loraB, given.scaling === scaling ? 1 : given.scaling / scaling);
  return {
    [key('loraA')]: placeColumns(given.loraA, first, rank),
    [key('loraB')]: placeRows(loraBInScale, first, rank),
  };
}

/** Whether a layer has tensors: those of a module that lost all its ranks are gone. */
function hasRanks(layer: AdapterLayer): boolean {
  return tensorNames(layer).length > 0;
}

/** Returns A, B and the scaling of a plain LoRA layer. @throws UnsupportedError for any other layer. */
function plainFactors(layer: AdapterLayer, values: HostTensors) {
  const isPlain = layer.toLora && !layer.frozenWeight && !layer.mergedBias;
  if (!isPlain || !layer.toLora || tensorNames(layer).sort().join() !== 'loraA,loraB') {
    const { path } = layer.site;
    throw new UnsupportedError(`hot swapping needs plain LoRA; the adapter of '${path}' is more than A and B`, path);
  }
  const factors = layer.toLora(values);
  return { ...factors, rank: factors.loraA.shape[1] as number };
}
