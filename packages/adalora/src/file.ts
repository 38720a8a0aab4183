import {
  adaptedPaths,
  CheckpointError,
  hostTensor,
  matrixOf,
  pickColumns,
  pickRows,
  placeRows,
  tensorAt,
  transposed,
  warnOfUnknownTensors,
  type AdapterContents,
  type AdapterFile,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core';
import { parseAdaloraConfig, type AdaloraConfig } from './config.js';
import { initialScores } from './scores.js';

const SUFFIXES = ['.lora_A', '.lora_E', '.lora_B'];

/** Options by their name on disk: PEFT's own. */
const PEFT_FIELDS = {
  init_r: 'initR',
  target_r: 'targetR',
  lora_alpha: 'loraAlpha',
  deltaT: 'deltaT',
  beta1: 'beta1',
  beta2: 'beta2',
  orth_reg_weight: 'orthRegWeight',
} as const satisfies Record<string, keyof AdaloraConfig>;

/** Options that PEFT does not have; only further training needs them. */
const OWN_FIELDS = {
  orth_regularizer: 'orthRegularizer',
  importance: 'importance',
  budget_unit: 'budgetUnit',
  budget: 'budget',
} as const satisfies Record<string, keyof AdaloraConfig>;

/**
 * The adapter as PEFT's ADALORA. Pruned, only the triplets that the mask keeps or that are alive are written, and
 * `rank_pattern` says which of `init_r` they are.
 */
export function adaloraFile(
  { config, layers, values }: AdapterContents<AdaloraConfig>,
  { pruned }: { readonly pruned: boolean },
): AdapterFile {
  const tensors: HostTensors = {};
  const rankPattern: Record<string, boolean[]> = {};
  for (const path of Object.keys(layers)) {
    const at = (name: string): HostTensor => tensorAt(values, `${path}.${name}`);
    const [mask, loraE] = [at('mask'), at('loraE')];
    const kept = [...loraE.data].map((value, rank) => !pruned || value !== 0 || mask.data[rank] !== 0);
    const ranks = kept.flatMap((keep, rank) => (keep ? [rank] : []));
    tensors[`${path}.lora_A`] = transposed(pickColumns(at('loraA'), ranks)); // [in, r] -> [kept, in]
    tensors[`${path}.lora_E`] = pickRows({ ...loraE, shape: [config.initR, 1] }, ranks); // [r] -> [kept, 1]
    tensors[`${path}.lora_B`] = transposed(pickRows(at('loraB'), ranks)); // [r, out] -> [out, kept]
    rankPattern[`${path}.lora_E`] = kept;
  }
  return { config: fileConfig(config, Object.keys(layers), pruned ? rankPattern : null), tensors };
}

/**
 * Reads PEFT's ADALORA. Triplets that were dropped come back as zeros, masked.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function readAdaloraFile(file: AdapterFile): { config: Partial<AdaloraConfig>; values: HostTensors } {
  const { config, tensors } = file;
  const paths = adaptedPaths(tensors, SUFFIXES);
  warnOfUnknownTensors(tensors, paths, SUFFIXES);
  const options = readOptions(config);
  const values = Object.assign({}, ...paths.map((path) => readModule(file, path, options))) as HostTensors;
  return { config: { ...options, targetModules: paths }, values };
}

function fileConfig(
  config: AdaloraConfig,
  paths: readonly string[],
  rankPattern: Readonly<Record<string, readonly boolean[]>> | null,
): AdapterFile['config'] {
  const [tinit, tfinal] = [config.tinit ?? 0, config.tfinal ?? 0];
  const written = { ...PEFT_FIELDS, ...(rankPattern ? {} : OWN_FIELDS) };
  return {
    peft_type: 'ADALORA',
    ...Object.fromEntries(Object.entries(written).map(([field, option]) => [field, config[option]])),
    tinit,
    tfinal,
    // PEFT refuses a file whose phases do not fit, though it only reads them to train.
    total_step: tinit + tfinal + 1,
    rank_pattern: rankPattern,
    target_modules: paths,
    exclude_modules: null,
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
  };
}

type ReadOptions = Partial<AdaloraConfig> & Pick<AdaloraConfig, 'initR'>;

function readOptions(config: AdapterFile['config']): ReadOptions {
  const present = Object.entries({ ...PEFT_FIELDS, ...OWN_FIELDS }).filter(([field]) => config[field] !== undefined);
  const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]])) as ReadOptions;
  if (!Number.isInteger(options.initR) || options.initR < 1) {
    throw new CheckpointError(`init_r is ${String(options.initR)}; expected a whole number of at least 1`, 'init_r');
  }
  const { tinit, tfinal } = config;
  // PEFT's zero is "not set": the next run has phases of its own.
  return { ...options, ...(tinit ? { tinit: tinit as number } : {}), ...(tfinal ? { tfinal: tfinal as number } : {}) };
}

/** A module's tensors with all of its `initR` ranks. */
function readModule({ config, tensors }: AdapterFile, path: string, options: ReadOptions): HostTensors {
  const r = options.initR;
  const ranks = keptRanks(config, path, r);
  const kept = ranks.length;
  const loraA = shaped(tensors, `${path}.lora_A`, [kept, null]);
  const loraB = shaped(tensors, `${path}.lora_B`, [null, kept]);
  const loraE = shaped(tensors, `${path}.lora_E`, [kept, 1]);
  const [inFeatures, outFeatures] = [loraA.shape[1] as number, loraB.shape[0] as number];
  const scores = initialScores({ inFeatures, outFeatures }, parseAdaloraConfig(options));
  const mask = new Float32Array(r);
  for (const rank of ranks) mask[rank] = 1;
  return {
    ...Object.fromEntries(Object.entries(scores).map(([name, { initial }]) => [`${path}.${name}`, initial])),
    [`${path}.loraA`]: transposed(placeRows(loraA, ranks, r)), // [kept, in] -> [in, r]
    [`${path}.loraE`]: { ...placeRows(loraE, ranks, r), shape: [r] }, // [kept, 1] -> [r]
    [`${path}.loraB`]: placeRows(transposed(loraB), ranks, r), // [out, kept] -> [r, out]
    [`${path}.mask`]: hostTensor(mask, [r]),
  };
}

/** Which of the `r` ranks a file holds: all of them, unless `rank_pattern` says otherwise. */
function keptRanks(config: AdapterFile['config'], path: string, r: number): number[] {
  const all = Array.from({ length: r }, (_, rank) => rank);
  const table = config.rank_pattern as Readonly<Record<string, unknown>> | null | undefined;
  if (table === null || table === undefined) return all;
  const key = `${path}.lora_E`;
  const pattern = table[key];
  if (Array.isArray(pattern) && pattern.length === r && pattern.every((keep) => typeof keep === 'boolean')) {
    return all.filter((rank) => pattern[rank] as boolean);
  }
  throw new CheckpointError(
    `rank_pattern: '${key}' must be a list of ${r} booleans, got ${JSON.stringify(pattern)}`,
    key,
  );
}

/** A matrix of the shape given; null for what the module's own size decides. */
function shaped(tensors: HostTensors, key: string, shape: readonly (number | null)[]): HostTensor {
  const matrix = matrixOf(tensors, key);
  if (shape.every((size, axis) => size === null || size === matrix.shape[axis])) return matrix;
  const wanted = shape.map((size) => size ?? '..').join(', ');
  throw new CheckpointError(`'${key}' has shape [${matrix.shape.join(', ')}]; expected [${wanted}]`, key);
}
