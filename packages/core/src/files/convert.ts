import { mergedModule, weightsOf } from '../adapter/adapters.js';
import { reduceRank, nearestFactors, type RankChoice } from '../ranks/factors.js';
import {
  adapterNamed,
  allLayers,
  initialValues,
  peftModel,
  valuesIn,
  valuesOf,
  type Adapter,
  type PeftModel,
} from '../adapter/peft-model.js';
import * as v from 'valibot';
import { integerFrom, parseOptions } from '../config.js';
import { ConfigError, UnsupportedError } from '../errors.js';
import { aMethod, aText } from '../kinds.js';
import type { AdapterLayer, FrozenModule, LoraFactors } from '../contracts/layer.js';
import type { AdapterFile, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { outputMeaning } from '../head.js';
import type { Site } from '../contracts/site.js';
import { hostZeros, type HostTensor, type HostTensors } from '../tensors.js';
import { printedModel } from '../printed.js';
import { rankLayer } from '../ranks/rank-layer.js';
import { deltaOf, frozenModule } from '../adapter/attach.js';
import { LORA, loraFile, readsLora } from './lora-file.js';
import { tokenFields } from './adapter-config.js';
import { restoreAdapter } from './pretrained.js';

/** Options of `convertToLora`: the adapter to convert, and the ranks to keep. */
export type ConvertOptions = RankChoice & {
  /** The method of the new adapter: lora, or another one that reads PEFT's LORA format. */
  readonly method: PeftMethod;
  /** The adapter to convert. Default: the first active one. */
  readonly adapterName?: string;
};

const entries = {
  method: aMethod,
  adapterName: v.optional(aText),
  rank: v.optional(integerFrom(1)),
  energy: v.optional(v.number()),
};

/**
 * Returns a new model with only one adapter: an adapter of any mergeable method, converted to LoRA. `peft` is not
 * changed. At every linear module and embedding, the LoRA is the best approximation of the weight's change by `rank`
 * ranks, or by the fewest ranks that hold the share `energy` of its squared norm. Biases that change become trained
 * ones (`bias: 'lora_only'`); layer norms, the head, `modulesToSave` and a trained table that is also the head's weight
 * are saved in full. Where weights are held in 8 or 4 bits, some methods change them otherwise than float32 weights:
 * for a LoRA of these, convert `await fullPrecision(peft)`.
 * @throws ConfigError for an unknown adapter or an impossible rank or energy.
 * @throws UnsupportedError when the adapter's method cannot be merged, `method` does not read the result, or a module
 * without a bias gets one.
 */
export function convertToLora(peft: PeftModel, options: ConvertOptions): PeftModel {
  const { method, adapterName, rank, energy } = parseOptions('convertToLora', entries, options);
  if ((rank === undefined) === (energy === undefined)) {
    const given = rank === undefined ? 'neither' : 'both';
    throw new ConfigError(`convertToLora: expected either rank or energy, got ${given}`, 'rank');
  }
  const choice = (rank === undefined ? { energy } : { rank }) as RankChoice;
  const adapter = adapterNamed(peft, adapterName);
  assertConvertible(adapter);
  const layers = Object.values(adapter.layers);
  const isApproximated = ({ site }: AdapterLayer): boolean => isMatrix(site) && !isHeadToo(peft.model, adapter, site);
  const modules = layers
    .filter(isApproximated)
    .map((layer) => approximated(peft.model, layer, valuesOf(layer, adapter.values), choice));
  if (modules.length === 0) {
    throw new UnsupportedError(
      `the ${adapter.method.name} adapter changes no matrix that a LoRA can change, so no LoRA can replace it`,
    );
  }
  const whole = layers
    .filter((layer) => !isApproximated(layer))
    .map((layer) => [layer.site.path, mergedModule(peft.model, layer, valuesOf(layer, adapter.values))] as const);
  const parts = { name: adapter.name, method, savedFrom: adapter, whole: Object.fromEntries(whole) };
  const adapted = loraAdapter(peft.model, peft.seed, modules, parts);
  return printedModel(peftModel(peft.model, peft.seed, adapted));
}

/** Checks that a LoRA can replace an adapter. @throws UnsupportedError when its method cannot be merged. */
export function assertConvertible({ name, method }: Adapter): void {
  if (method.capabilities.mergeable) return;
  throw new UnsupportedError(`${method.name} does more than change weights, so no LoRA can replace it`, name);
}

function isMatrix({ kind }: Site): boolean {
  return kind === 'linear' || kind === 'embedding';
}

/** Whether a trained table is also the weight of a head tied to it, which a LoRA on the table would not change. */
function isHeadToo({ tied = [] }: Model, adapter: Adapter, { path }: Site): boolean {
  const own = allLayers(adapter);
  return own[path]?.replacesModule === true && tied.some(({ site, table }) => table === path && !(site.path in own));
}

function approximated(model: Model, layer: AdapterLayer, values: HostTensors, choice: RankChoice): ModuleFactors {
  const { site } = layer;
  const factors = factorsOf(model, layer, values, choice);
  if (!layer.mergedBias) return { site, factors };
  if (!site.hasBias) {
    throw new UnsupportedError(
      `the adapter adds a bias to '${site.path}', which has none, and a converted LoRA only changes biases: use mergeAndUnload`,
      site.path,
    );
  }
  const { bias } = mergedModule(model, layer, values);
  return { site, bias, factors: factors.loraA.shape[1] === 0 ? noChange(site) : factors };
}

function factorsOf(model: Model, layer: AdapterLayer, values: HostTensors, choice: RankChoice): LoraFactors {
  if (layer.toLora) return reduceRank(layer.toLora(values), choice);
  const delta = deltaOf(model, layer, values);
  return delta ? nearestFactors(delta, choice) : noChange(layer.site);
}

/** Returns one rank of zeros: PEFT has no adapted module without a rank, and a trained bias needs one. */
function noChange({ inFeatures, outFeatures }: Site): LoraFactors {
  return { loraA: hostZeros([inFeatures, 1]), loraB: hostZeros([1, outFeatures]), scaling: 1 };
}

/** PEFT's suffix for the trained bias of an adapted module. */
const ADAPTED_BIAS = '.base_layer.bias';

/** A change of one module's weight, and its new bias if that changes. */
export interface ModuleFactors {
  /** The module. */
  readonly site: Site;
  /** The low-rank factors of the weight's change. */
  readonly factors: LoraFactors;
  /** The new bias `[out]`; undefined where it stays. */
  readonly bias?: HostTensor | undefined;
}

/** The parts of an adapter besides its factors. The method must read PEFT's LORA format. */
export interface LoraAdapterParts extends Pick<Adapter, 'name' | 'method'> {
  /** The adapter whose head and `modulesToSave` it gets. */
  readonly savedFrom: Adapter;
  /** Other modules that it saves in full, by path. A table among them stays tied to its head. Default: none. */
  readonly whole?: Readonly<Record<string, FrozenModule>>;
}

/**
 * Makes a LoRA adapter with these factors.
 * @throws UnsupportedError when the method does not read PEFT's LORA format, or not with biases where one changes.
 */
export function loraAdapter(
  model: Model,
  seed: number,
  modules: readonly ModuleFactors[],
  { name, method, savedFrom, whole = {} }: LoraAdapterParts,
): Adapter {
  if (!readsLora(method)) {
    throw new UnsupportedError(`${method.name} does not read PEFT's ${LORA}: give a method that does`, 'method');
  }
  const { config, ...factors } = factorsFile(modules);
  const ensureWeightTying =
    savedFrom.config.ensureWeightTying || (model.tied ?? []).some(({ table }) => table in whole);
  const file = { ...factors, config: { ...config, ...tokenFields({ ...savedFrom.config, ensureWeightTying }) } };
  const hasBiases = modules.some(({ bias }) => bias !== undefined);
  return restoreAdapter(model, seed, {
    name,
    method,
    file: hasBiases ? withBiases(file, modules, model) : file,
    saved: { ...valuesIn(savedFrom.saved, savedFrom.values), ...wholeValues(whole) },
    savedPaths: [...Object.keys(savedFrom.saved), ...Object.keys(whole)],
    ...outputMeaning(savedFrom),
    source: `the adapter '${name}'`,
  });
}

function factorsFile(modules: readonly ModuleFactors[]): AdapterFile {
  const layers = Object.fromEntries(
    modules.map(({ site, factors: { scaling, ...initial } }) => [site.path, rankLayer(site, { initial, scaling })]),
  );
  return loraFile({ layers, values: initialValues(layers) });
}

/**
 * Adds a bias for every adapted module that has one, as PEFT's `lora_only` requires; unchanged ones are the frozen
 * biases.
 */
function withBiases(file: AdapterFile, modules: readonly ModuleFactors[], model: Model): AdapterFile {
  const adapted = file.config.target_modules as readonly string[];
  const biases = modules.flatMap(({ site: { path }, bias }) => {
    const own = bias ?? frozenModule(model, path).bias;
    return own && adapted.includes(path) ? [[path + ADAPTED_BIAS, own] as const] : [];
  });
  return {
    config: { ...file.config, bias: 'lora_only' },
    tensors: { ...file.tensors, ...Object.fromEntries(biases) },
  };
}

function wholeValues(whole: Readonly<Record<string, FrozenModule>>): HostTensors {
  return Object.assign({}, ...Object.entries(whole).map(([path, module]) => weightsOf(path, module))) as HostTensors;
}
