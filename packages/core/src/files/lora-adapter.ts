import { lowRankLayer } from '../adapter/low-rank-layer.js';
import { tensorKey, valuesOf, type Adapter } from '../adapter/peft-model.js';
import { frozenModule } from '../adapter/attach.js';
import type { AdapterFile, FrozenModule, LoraFactors, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { Site } from '../contracts/site.js';
import { UnsupportedError } from '../errors.js';
import type { HostTensor, HostTensors } from '../tensors.js';
import { LORA, loraFile, readsLora } from './lora-file.js';
import { restoreAdapter } from './restore.js';

/** What PEFT calls the trained bias of an adapted module, after its path. */
const ADAPTED_BIAS = '.base_layer.bias';

/** A change of one module's weight, and its new bias where that changes. */
export interface ModuleFactors {
  readonly site: Site;
  readonly factors: LoraFactors;
  readonly bias?: HostTensor | undefined;
}

/** What an adapter is made of besides its factors. */
export interface LoraAdapterParts {
  readonly name: string;
  /** Reads PEFT's LORA. */
  readonly method: PeftMethod;
  /** Whose head and `modulesToSave` it gets. */
  readonly savedFrom: Adapter;
  /** Modules that it saves whole besides, by path. */
  readonly whole?: Readonly<Record<string, FrozenModule>>;
}

/**
 * A LoRA adapter with these factors.
 * @throws UnsupportedError when the method does not read PEFT's LORA, or not with biases where one changes.
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
  const file = factorsFile(modules);
  const hasBiases = modules.some(({ bias }) => bias !== undefined);
  return restoreAdapter(model, seed, {
    name,
    method,
    file: hasBiases ? withBiases(file, modules, model) : file,
    saved: { ...savedValues(savedFrom), ...wholeValues(whole) },
    savedPaths: [...Object.keys(savedFrom.saved), ...Object.keys(whole)],
    labels: savedFrom.labels,
    source: `the adapter '${name}'`,
  });
}

function factorsFile(modules: readonly ModuleFactors[]): AdapterFile {
  const layers = modules.map(({ site, factors }) => [site.path, lowRankLayer(site, factors)] as const);
  const values = modules.flatMap(({ site, factors: { loraA, loraB } }) => [
    [`${site.path}.loraA`, loraA] as const,
    [`${site.path}.loraB`, loraB] as const,
  ]);
  return loraFile({ layers: Object.fromEntries(layers), values: Object.fromEntries(values) });
}

/** The file with a bias of every adapted module that has one, as PEFT's `lora_only` asks for: the frozen one where none changes. */
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

function savedValues({ saved, values }: Adapter): HostTensors {
  const entries = Object.values(saved).flatMap((layer) =>
    Object.entries(valuesOf(layer, values)).map(([name, value]) => [tensorKey(layer, name), value] as const),
  );
  return Object.fromEntries(entries);
}

function wholeValues(whole: Readonly<Record<string, FrozenModule>>): HostTensors {
  const entries = Object.entries(whole).flatMap(([path, { weight, bias }]) => [
    [`${path}.weight`, weight] as const,
    ...(bias ? [[`${path}.bias`, bias] as const] : []),
  ]);
  return Object.fromEntries(entries);
}
