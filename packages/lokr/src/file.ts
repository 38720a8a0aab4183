import {
  adaptedPaths,
  CheckpointError,
  describe,
  matrixOf,
  moduleRank,
  moduleTable,
  rankPatterns,
  tensorAt,
  transposed,
  assertNoOtherTensors,
  type AdapterContents,
  type AdapterFile,
  type HostTensors,
  type ModuleRank,
} from '@peftjs/core/method';
import type { LokrConfig } from './config.js';
import type { TensorName } from './shapes.js';

/** PEFT's suffixes of the tensors after the module's path. On disk they are transposed. */
const SUFFIXES: Readonly<Record<TensorName, string>> = {
  lokrW1: '.lokr_w1', // [l, m]
  lokrW1A: '.lokr_w1_a', // [l, r]
  lokrW1B: '.lokr_w1_b', // [r, m]
  lokrW2: '.lokr_w2', // [k, n]
  lokrW2A: '.lokr_w2_a', // [k, r]
  lokrW2B: '.lokr_w2_b', // [r, n]
};

/** PEFT's fields besides ranks and alphas, and their options. */
const FIELDS = {
  decompose_both: 'decomposeBoth',
  decompose_factor: 'decomposeFactor',
  rank_dropout: 'rankDropout',
  rank_dropout_scale: 'rankDropoutScale',
  module_dropout: 'moduleDropout',
  init_weights: 'initWeights',
} as const satisfies Record<string, keyof LokrConfig>;

/** Writes PEFT's LOKR. */
export function lokrFile({ config, layers, values }: AdapterContents<LokrConfig>): AdapterFile {
  const tensors: HostTensors = {};
  for (const [path, { params }] of Object.entries(layers)) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      if (name in params) tensors[path + suffix] = transposed(tensorAt(values, `${path}.${name}`));
    }
  }
  const modules = Object.fromEntries(Object.keys(layers).map((path) => [path, moduleRank(config, path)]));
  const { rankPattern, alphaPattern } = rankPatterns(modules, config);
  return {
    config: {
      peft_type: 'LOKR',
      r: config.r,
      alpha: config.alpha,
      rank_pattern: rankPattern,
      alpha_pattern: alphaPattern,
      ...Object.fromEntries(Object.entries(FIELDS).map(([field, option]) => [field, config[option]])),
      target_modules: Object.keys(layers),
      exclude_modules: null,
      use_effective_conv2d: false, // applies to convolutions only
    },
    tensors,
  };
}

/**
 * Reads LOKR. Ranks come from the configuration, because a whole factor does not show its rank. The resulting shapes
 * are compared with the file's when the layers are made.
 * @throws CheckpointError that names the invalid tensor or field.
 */
export function readLokrFile({ config, tensors }: AdapterFile): { config: Partial<LokrConfig>; values: HostTensors } {
  const suffixes = Object.values(SUFFIXES);
  const paths = adaptedPaths(tensors, suffixes);
  if (paths.length === 0) {
    throw new CheckpointError(`the file holds no tensor '<module>${SUFFIXES.lokrW1}'`, SUFFIXES.lokrW1);
  }
  assertNoOtherTensors(tensors, paths, suffixes);
  const values: HostTensors = {};
  for (const path of paths) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      if (path + suffix in tensors) values[`${path}.${name}`] = transposed(matrixOf(tensors, path + suffix));
    }
  }
  const [ranks, alphas] = [moduleTable(config, 'rank_pattern'), moduleTable(config, 'alpha_pattern')];
  const usual = { r: numberIn(config, 'r'), alpha: numberIn(config, 'alpha') };
  const modules: Record<string, ModuleRank> = {};
  for (const path of paths) modules[path] = { r: ranks(path) ?? usual.r, alpha: alphas(path) ?? usual.alpha };
  const present = Object.entries(FIELDS).filter(([field]) => config[field] != null);
  // Their values are validated with the other options.
  const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]]));
  return { config: { ...options, ...usual, ...rankPatterns(modules, usual), targetModules: paths }, values };
}

function numberIn(config: AdapterFile['config'], field: string): number {
  const value = config[field];
  if (typeof value === 'number') return value;
  throw new CheckpointError(`${field} is ${describe(value)}; expected a number`, field);
}
