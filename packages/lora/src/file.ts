import {
  loraFile,
  readLoraFile,
  tensorAt,
  transposed,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayer,
  type HostTensors,
} from '@peftjs/core/method';
import { isPartOfWeight, type InitLoraWeights, type LoraConfig } from './config.js';
import type { LoraLayer } from './layer.js';
import { GRAM_INVERSE, gramInverse } from './variants.js';

/** `peft_type` of an adapter with the A0 and B0 that it has taken out of the weights: PEFT has no such type. */
export const LORA_GA = 'LORA_GA';

/** What stands beside A and B of an adapted module: endings on disk, and the names here. */
const BESIDE = {
  '.lora_magnitude_vector': 'loraMagnitudeVector',
  '.lora_B.bias': 'loraBias',
  '.base_layer.bias': 'bias',
};
/** What is trained of a module that is not adapted. */
const OF_OTHERS = { '.bias': 'bias' };
/** Where A and B started: matrices, transposed on disk. */
const STARTS = { '.start_A.weight': 'startA', '.start_B.weight': 'startB' };

/** Options on disk that only further training needs. */
const TRAINING_FIELDS = {
  lora_dropout: 'loraDropout',
  loraplus_lr_ratio: 'loraplusLrRatio',
  lora_fa: 'loraFa',
} as const satisfies Record<string, keyof LoraConfig>;

/**
 * Pruned: PEFT's LORA, where A and B that were taken out of the weight are written as the change s (A B - A0 B0) of rank 2 r.
 * Otherwise A and B as they are: for `'pissa'` and `'olora'` as PEFT writes them, for it takes them out of the weight anew;
 * for `'lora_ga'` as LORA_GA, with A0 and B0.
 */
export function loraAdapterFile(
  adapter: AdapterContents<LoraConfig>,
  { pruned }: { readonly pruned: boolean },
): AdapterFile {
  const { config, values } = adapter;
  const layers = Object.values(adapter.layers);
  const [adapted, others] = [layers.filter(isLora), layers.filter((layer) => !isLora(layer))];
  const factors = loraFile({ values, layers: asChanges(adapted, pruned ? 'factors' : 'trainedFactors') });
  const fields = { use_dora: config.useDora, lora_bias: config.loraBias, bias: config.bias };
  const starts = Object.entries(named(adapted, values, STARTS)).map(
    ([key, value]) => [key, transposed(value)] as const,
  );
  return {
    config: { ...factors.config, ...fields, ...(!pruned && trainingFields(config, starts.length > 0)) },
    tensors: {
      ...factors.tensors,
      ...named(adapted, values, BESIDE),
      ...named(others, values, OF_OTHERS),
      ...(!pruned && Object.fromEntries(starts)),
    },
  };
}

/**
 * Reads PEFT's LORA with all that may stand beside A and B, and LORA_GA.
 * @throws CheckpointError naming the tensor or field at fault.
 * @throws UnsupportedError for what PEFT can do with LoRA and is not done here.
 */
export function readLoraAdapterFile(file: AdapterFile): {
  config: Partial<LoraConfig>;
  values: HostTensors;
} {
  const { config, tensors } = file;
  const { factors, beside } = apart(config, tensors);
  const plain = { ...config, use_dora: false, lora_bias: false };
  const { values, ...read } = readLoraFile({ ...file, config: plain, tensors: factors });
  const options = optionsOf(config);
  return {
    config: { ...read, ...options },
    values: { ...values, ...beside, ...(options.loraFa && inverses(factors, values)) },
  };
}

function isLora(layer: AdapterLayer): layer is LoraLayer {
  return 'trainedFactors' in layer;
}

/** The layers as A and B alone. */
function asChanges(layers: readonly LoraLayer[], factors: 'factors' | 'trainedFactors'): Record<string, AdapterLayer> {
  return Object.fromEntries(layers.map((layer) => [layer.site.path, { ...layer, toLora: layer[factors] }]));
}

/** The tensors that layers have of those named, by their names on disk. */
function named(
  layers: readonly AdapterLayer[],
  values: HostTensors,
  names: Readonly<Record<string, string>>,
): HostTensors {
  const tensors: HostTensors = {};
  for (const { site } of layers) {
    for (const [suffix, name] of Object.entries(names)) {
      const value = values[`${site.path}.${name}`];
      if (value) tensors[site.path + suffix] = value;
    }
  }
  return tensors;
}

function trainingFields(config: LoraConfig, keepsStarts: boolean): AdapterFile['config'] {
  const fields = Object.entries(TRAINING_FIELDS).map(([field, option]) => [field, config[option]] as const);
  const { initLoraWeights } = config;
  return {
    ...Object.fromEntries(fields),
    // PEFT draws 'pissa_niter_N' by chance at every load; here it is 'pissa'.
    ...(isPartOfWeight(initLoraWeights) && {
      init_lora_weights: initLoraWeights === 'olora' ? initLoraWeights : 'pissa',
    }),
    ...(keepsStarts && { peft_type: LORA_GA }),
  };
}

function optionsOf(config: AdapterFile['config']): Partial<LoraConfig> {
  const given = Object.entries({ use_dora: 'useDora', lora_bias: 'loraBias', bias: 'bias', ...TRAINING_FIELDS });
  const present = given.filter(([field]) => config[field] != null);
  const init = config.init_lora_weights as InitLoraWeights;
  return {
    ...Object.fromEntries(present.map(([field, option]) => [option, config[field]])),
    ...(isPartOfWeight(init) && { initLoraWeights: init }),
    ...(config.peft_type === LORA_GA && { initLoraWeights: 'stored' }),
  };
}

/** A file's tensors: A and B, and as values here those beside them that its configuration speaks of. */
function apart(config: AdapterFile['config'], tensors: HostTensors): { factors: HostTensors; beside: HostTensors } {
  const [factors, beside]: [HostTensors, HostTensors] = [{}, {}];
  const expected: Readonly<Record<string, boolean>> = {
    loraMagnitudeVector: config.use_dora === true,
    loraBias: config.lora_bias === true,
    bias: config.bias === 'all' || config.bias === 'lora_only',
    startA: config.peft_type === LORA_GA,
    startB: config.peft_type === LORA_GA,
  };
  for (const [key, tensor] of Object.entries(tensors)) {
    const [suffix, name] = Object.entries(KNOWN).find(([each]) => key.endsWith(each)) ?? [];
    if (suffix === undefined || name === undefined || !expected[name]) factors[key] = tensor;
    else beside[`${key.slice(0, -suffix.length)}.${name}`] = suffix in STARTS ? transposed(tensor) : tensor;
  }
  return { factors, beside };
}

/** All endings, the longer of two before the shorter. */
const KNOWN: Readonly<Record<string, string>> = { ...BESIDE, ...STARTS, ...OF_OTHERS };

/** The state of LoRA-FA that belongs to a file's A, for every linear module; none for more ranks than inputs, which the layer refuses. */
function inverses(factors: HostTensors, values: HostTensors): HostTensors {
  const linear = Object.keys(factors).flatMap((key) => (key.endsWith('.lora_A.weight') ? [key.slice(0, -14)] : []));
  const entries = linear.flatMap((path) => {
    const loraA = tensorAt(values, `${path}.loraA`);
    const [inFeatures, r] = loraA.shape as [number, number];
    return r > inFeatures ? [] : [[`${path}.${GRAM_INVERSE}`, gramInverse(loraA)] as const];
  });
  return Object.fromEntries(entries);
}
