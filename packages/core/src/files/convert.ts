import { deltaWeight, mergedModule } from '../adapter/merge.js';
import { fewerRanks, nearestFactors, type RankChoice } from '../adapter/low-rank.js';
import { adapterNamed, activeAdapter, peftModel, valuesOf, type PeftModel } from '../adapter/peft-model.js';
import { UnsupportedError } from '../errors.js';
import type { AdapterLayer, LoraFactors, PeftMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { Site } from '../contracts/site.js';
import { hostTensor, hostZeros, type HostTensors } from '../tensors.js';
import { loraAdapter, type ModuleFactors } from './lora-adapter.js';

/** Which adapter becomes a LoRA, and of how many ranks. */
export type ConvertOptions = RankChoice & {
  /** The method of the new adapter: lora, or another that reads PEFT's LORA. */
  readonly method: PeftMethod;
  /** Default: the first active one. */
  readonly adapterName?: string;
};

/**
 * Returns a new model with an adapter of any mergeable method as a LoRA, alone; `peft` stays as it is. The LoRA has at every linear module and embedding the best approximation of the change of its
 * weight by `rank` ranks, or by as few as hold the share `energy` of its squared norm. Biases that change become trained ones
 * (`bias: 'lora_only'`); layer norms, the head and `modulesToSave` are saved whole.
 * @throws ConfigError for an unknown adapter or an impossible rank or energy.
 * @throws UnsupportedError when the adapter's method cannot be merged, or `method` does not read what is made of it.
 */
export function convertToLora(peft: PeftModel, { method, adapterName, ...choice }: ConvertOptions): PeftModel {
  const adapter = adapterName === undefined ? activeAdapter(peft) : adapterNamed(peft, adapterName);
  if (!adapter.method.capabilities.mergeable) {
    throw new UnsupportedError(
      `${adapter.method.name} is more than a change of weights, so that no LoRA can take its place`,
    );
  }
  const layers = Object.values(adapter.layers);
  const modules = layers
    .filter(({ site }) => isMatrix(site))
    .map((layer) => approximated(peft.model, layer, valuesOf(layer, adapter.values), choice));
  if (modules.length === 0) {
    throw new UnsupportedError(
      `the ${adapter.method.name} adapter changes no matrix, so that no LoRA can take its place`,
    );
  }
  const whole = layers
    .filter(({ site }) => !isMatrix(site))
    .map((layer) => [layer.site.path, mergedModule(peft.model, layer, valuesOf(layer, adapter.values))] as const);
  const parts = { name: adapter.name, method, savedFrom: adapter, whole: Object.fromEntries(whole) };
  return peftModel(peft.model, peft.seed, loraAdapter(peft.model, peft.seed, modules, parts));
}

function isMatrix({ kind }: Site): boolean {
  return kind === 'linear' || kind === 'embedding';
}

function approximated(model: Model, layer: AdapterLayer, values: HostTensors, choice: RankChoice): ModuleFactors {
  const { site } = layer;
  if (!layer.mergedBias) return { site, factors: factorsOf(model, layer, values, choice) };
  const { bias } = mergedModule(model, layer, values);
  const factors = factorsOf(model, layer, values, choice);
  return { site, bias, factors: factors.loraA.shape[1] === 0 ? noChange(site) : factors };
}

function factorsOf(model: Model, layer: AdapterLayer, values: HostTensors, choice: RankChoice): LoraFactors {
  if (layer.toLora) return fewerRanks(layer.toLora(values), choice);
  if (!layer.deltaWeight) return noChange(layer.site);
  const { inFeatures, outFeatures } = layer.site;
  return nearestFactors(hostTensor(deltaWeight(model, layer, values), [inFeatures, outFeatures]), choice);
}

/** One rank of zeros: PEFT has no adapted module without a rank, and its bias needs one. */
function noChange({ inFeatures, outFeatures }: Site): LoraFactors {
  return { loraA: hostZeros([inFeatures, 1]), loraB: hostZeros([1, outFeatures]), scaling: 1 };
}
