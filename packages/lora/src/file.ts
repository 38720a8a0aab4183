import {
  fieldsOf,
  layersByPath,
  loraFile,
  mapValues,
  optionsIn,
  readLoraFile,
  tensorAt,
  trained,
  writtenTensors,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayer,
  type HostTensors,
  type ModuleTensors,
} from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
import { isPartOfWeight, type InitLoraWeights, type LoraConfig } from './config.js';
import type { LoraLayer } from './layer.js';
import { GRAM_INVERSE, gramInverse } from './variants.js';

/** The `peft_type` of an adapter that is saved with its A0 and B0. PEFT has no such type. */
export const LORA_GA = 'LORA_GA';

/** The tensors of an adapted module besides A and B. */
const OTHER_TENSORS: ModuleTensors = {
  loraMagnitudeVector: ['.lora_magnitude_vector', 'out'],
  loraBias: ['.lora_B.bias', 'out'],
  bias: ['.base_layer.bias', 'out'],
};
/** The trained tensors of a module that is not adapted. */
const UNADAPTED_TENSORS: ModuleTensors = { bias: ['.bias', 'out'] };
/** The initial A and B, A0 and B0. */
const STARTS: ModuleTensors = { startA: ['.start_A.weight', 'r', 'in'], startB: ['.start_B.weight', 'out', 'r'] };

/** The fields on disk that only further training needs. */
const TRAINING_FIELDS = {
  lora_dropout: 'loraDropout',
  loraplus_lr_ratio: 'loraplusLrRatio',
  lora_fa: 'loraFa',
} as const satisfies Record<string, keyof LoraConfig>;

/**
 * Writes the adapter's file.
 * - Pruned: PEFT's LORA. If A0 and B0 were subtracted from the weight, the change s (A B - A0 B0) of rank 2 r is
 *   written.
 * - Not pruned: A and B unchanged. `'pissa'` and `'olora'` are written as in PEFT, which subtracts A0 and B0 again when
 *   it loads the file; `'lora_ga'`, and these two on weights in few bits, are written as LORA_GA, with A0 and B0.
 */
export function loraAdapterFile(
  adapter: AdapterContents<LoraConfig>,
  { pruned }: { readonly pruned: boolean },
): AdapterFile {
  const { config, values } = adapter;
  const layers = Object.values(adapter.layers);
  const factorsOf = pruned ? 'factors' : 'trainedFactors';
  const adapted = layersByPath(layers.filter(isLora).map((layer) => ({ ...layer, toLora: layer[factorsOf] })));
  const others = layersByPath(layers.filter((layer) => !isLora(layer)));
  const factors = loraFile({ values, layers: adapted });
  const fields = { use_dora: config.useDora, lora_bias: config.loraBias, bias: config.bias };
  const starts = startsOf({ values, layers: adapted });
  const keepsStarts = Object.keys(starts).length > 0;
  return {
    config: { ...factors.config, ...fields, ...(!pruned && trainingFields(config, keepsStarts)) },
    tensors: {
      ...factors.tensors,
      ...writtenTensors({ values, layers: adapted }, OTHER_TENSORS),
      ...writtenTensors({ values, layers: others }, UNADAPTED_TENSORS),
      ...(!pruned && starts),
    },
  };
}

/**
 * Reads PEFT's LORA, with all tensors it may have besides A and B, and LORA_GA.
 * @throws CheckpointError that names the invalid tensor or field.
 * @throws UnsupportedError for LoRA features of PEFT that are not supported here.
 */
export function readLoraAdapterFile(file: AdapterFile): {
  config: Partial<LoraConfig>;
  values: HostTensors;
} {
  const { config, tensors } = file;
  const { factors, others } = splitTensors(config, tensors);
  const plain = { ...config, use_dora: false, lora_bias: false };
  const { values, ...read } = readLoraFile({ ...file, config: plain, tensors: factors });
  const options = optionsOf(config);
  return {
    config: { ...read, ...options },
    values: { ...values, ...others, ...(options.loraFa && inverses(factors, values)) },
  };
}

function isLora(layer: AdapterLayer): layer is LoraLayer {
  return 'trainedFactors' in layer;
}

/** Returns A0 and B0 of the layers that keep them, or whose frozen weights were rounded. */
function startsOf({ values, layers }: Pick<AdapterContents, 'values' | 'layers'>): HostTensors {
  const rounded = Object.values(layers).flatMap((layer) => {
    const { startOfRounded: own } = layer as LoraLayer;
    return own ? [{ ...layer, params: mapValues(own, (initial) => trained(initial)) }] : [];
  });
  const initial = rounded.flatMap(({ site, params }) =>
    Object.entries(params).map(([name, spec]) => [`${site.path}.${name}`, spec.initial] as const),
  );
  return {
    ...writtenTensors({ values, layers }, STARTS),
    ...writtenTensors({ values: Object.fromEntries(initial), layers: layersByPath(rounded) }, STARTS),
  };
}

function trainingFields(config: LoraConfig, keepsStarts: boolean): AdapterFile['config'] {
  const { initLoraWeights } = config;
  return {
    ...fieldsOf(config, TRAINING_FIELDS),
    // PEFT initializes 'pissa_niter_N' at random on every load; this package treats it as 'pissa'.
    ...(isPartOfWeight(initLoraWeights) && {
      init_lora_weights: initLoraWeights === 'olora' ? initLoraWeights : 'pissa',
    }),
    ...(keepsStarts && { peft_type: LORA_GA }),
  };
}

function optionsOf(config: AdapterFile['config']): Partial<LoraConfig> {
  const { init_lora_weights: named } = config;
  const isOlora = typeof named === 'string' && named.toLowerCase() === 'olora'; // PEFT's comparison
  const init = (isOlora ? 'olora' : named) as InitLoraWeights;
  return {
    ...optionsIn<LoraConfig>(config, { use_dora: 'useDora', lora_bias: 'loraBias', bias: 'bias', ...TRAINING_FIELDS }),
    ...(isPartOfWeight(init) && { initLoraWeights: init }),
    ...(config.peft_type === LORA_GA && { initLoraWeights: 'stored' }),
  };
}

/** Splits a file's tensors into A and B, by key, and the other declared ones, by their names in values. */
function splitTensors(
  config: AdapterFile['config'],
  tensors: HostTensors,
): { factors: HostTensors; others: HostTensors } {
  const [factors, others]: [HostTensors, HostTensors] = [{}, {}];
  const expected: Readonly<Record<string, boolean>> = {
    loraMagnitudeVector: config.use_dora === true,
    loraBias: config.lora_bias === true,
    bias: config.bias === 'all' || config.bias === 'lora_only',
    startA: config.peft_type === LORA_GA,
    startB: config.peft_type === LORA_GA,
  };
  for (const [key, tensor] of Object.entries(tensors)) {
    const [name = '', [suffix, ...axes] = ['']] = KNOWN.find(([, [each]]) => key.endsWith(each)) ?? [];
    if (!expected[name]) factors[key] = tensor;
    else others[`${key.slice(0, -suffix.length)}.${name}`] = axes.length === 2 ? transposed(tensor) : tensor;
  }
  return { factors, others };
}

/** All tensors, those with longer suffixes before those with the suffixes that they end in. */
const KNOWN = [OTHER_TENSORS, STARTS, UNADAPTED_TENSORS].flatMap((tensors) => Object.entries(tensors));

/** Returns the Gram inverses of a LoRA-FA file's linear modules. Skips modules with r > in, which layers reject. */
function inverses(factors: HostTensors, values: HostTensors): HostTensors {
  const linear = Object.keys(factors).flatMap((key) => (key.endsWith('.lora_A.weight') ? [key.slice(0, -14)] : []));
  const entries = linear.flatMap((path) => {
    const loraA = tensorAt(values, `${path}.loraA`);
    const [inFeatures, r] = loraA.shape as [number, number];
    return r > inFeatures ? [] : [[`${path}.${GRAM_INVERSE}`, gramInverse(loraA)] as const];
  });
  return Object.fromEntries(entries);
}
