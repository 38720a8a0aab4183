import {
  CheckpointError,
  compactPattern,
  heldRanks,
  loraFile,
  patternValue,
  rankedPaths,
  readLoraFile,
  tensorAt,
  transposed,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayer,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core';
import type { SoraConfig } from './config.js';
import { alphaOf, gateCount, ones } from './layer.js';

const PEFT_TYPE = 'SORA';
const GATE = '.gate';

/** Options on disk that only further training needs. */
const TRAINING_FIELDS = {
  sparse_lambda: 'sparseLambda',
  threshold_mode: 'thresholdMode',
  proximal: 'proximal',
  gate_init: 'gateInit',
  lora_dropout: 'loraDropout',
  l1_weight: 'l1Weight',
  budget: 'budget',
  selection: 'selection',
  compact_every: 'compactEvery',
} as const satisfies Record<string, keyof SoraConfig>;

/**
 * Pruned: PEFT's LORA, without the zero gates' ranks. Otherwise SORA: A, B and `<path>.gate` [ranks] as they are, but for
 * an adapter whose ranks have all been removed, which holds nothing to train further.
 */
export function soraFile(adapter: AdapterContents<SoraConfig>, { pruned }: { readonly pruned: boolean }): AdapterFile {
  return pruned || rankedPaths(adapter.layers).length === 0 ? loraFile(adapter) : unprunedFile(adapter);
}

/**
 * Reads SORA, or LORA as SoRA with gates of one.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function readSoraFile({ config, tensors }: AdapterFile): { config: Partial<SoraConfig>; values: HostTensors } {
  const isGate = (key: string): boolean => config.peft_type === PEFT_TYPE && key.endsWith(GATE);
  const entries = Object.entries(tensors);
  const factors = Object.fromEntries(entries.filter(([key]) => !isGate(key)));
  const { values, ...lora } = readLoraFile({ config, tensors: factors });
  for (const path of lora.targetModules) {
    const r = patternValue(lora.rankPattern, path) ?? lora.r;
    values[`${path}.gate`] = config.peft_type === PEFT_TYPE ? readGate(tensors, path, r) : ones(r);
    values[`${path}.mask`] = ones(r);
  }
  return { config: { ...lora, ...trainingOptions(config) }, values };
}

function unprunedFile({ config, layers, values }: AdapterContents<SoraConfig>): AdapterFile {
  const paths = rankedPaths(layers);
  const tensors: HostTensors = {};
  for (const path of paths) {
    tensors[`${path}.lora_A.weight`] = transposed(tensorAt(values, `${path}.loraA`)); // [in, r] -> [r, in]
    tensors[`${path}.lora_B.weight`] = transposed(tensorAt(values, `${path}.loraB`)); // [r, out] -> [out, r]
    tensors[`${path}.gate`] = tensorAt(values, `${path}.gate`); // [r]
  }
  const held = paths.map((path) => tensorAt(layers, path));
  const ranks = Object.fromEntries(held.map((layer) => [layer.site.path, heldRanks(layer)]));
  const alphas = Object.fromEntries(held.map((layer) => [layer.site.path, alphaOnDisk(layer, config)]));
  const training = Object.entries(TRAINING_FIELDS).map(([field, option]) => [field, config[option]] as const);
  const removed = Object.keys(layers).filter((path) => !paths.includes(path));
  return {
    config: {
      peft_type: PEFT_TYPE,
      r: config.r,
      lora_alpha: config.loraAlpha,
      rank_pattern: compactPattern(ranks, config.r),
      alpha_pattern: compactPattern(alphas, config.loraAlpha),
      target_modules: paths,
      exclude_modules: removed.length === 0 ? null : removed,
      ...Object.fromEntries(training),
    },
    tensors,
  };
}

/** A file's scaling is alpha / rank: where ranks have been removed, alpha goes with them. Rounding's last digits are left out. */
function alphaOnDisk(layer: AdapterLayer, config: SoraConfig): number {
  const scaling = alphaOf(layer.site, config) / gateCount(layer.site, config);
  return Number((scaling * heldRanks(layer)).toPrecision(12));
}

function trainingOptions(config: AdapterFile['config']): Partial<SoraConfig> {
  const present = Object.entries(TRAINING_FIELDS).filter(([field]) => config[field] !== undefined);
  return Object.fromEntries(present.map(([field, option]) => [option, config[field]]));
}

function readGate(tensors: HostTensors, path: string, r: number): HostTensor {
  const key = path + GATE;
  const gate = tensors[key];
  if (!gate) throw new CheckpointError(`the tensor '${key}' is missing`, key);
  if (gate.shape.join() === String(r)) return gate;
  throw new CheckpointError(
    `'${key}' has shape [${gate.shape.join(', ')}]; '${path}.lora_A.weight' asks for [${r}]`,
    key,
  );
}
