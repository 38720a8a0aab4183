import {
  adaptedPaths,
  assertFeatures,
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
import type { LohaConfig } from './config.js';

/** PEFT's suffixes of the tensors after the module's path. */
const SUFFIXES = {
  hadaW1A: '.hada_w1_a', // [out, r]
  hadaW1B: '.hada_w1_b', // [r, in]
  hadaW2A: '.hada_w2_a',
  hadaW2B: '.hada_w2_b',
} as const;

/** PEFT's fields besides ranks and alphas, and their options. */
const FIELDS = {
  rank_dropout: 'rankDropout',
  module_dropout: 'moduleDropout',
  init_weights: 'initWeights',
} as const satisfies Record<string, keyof LohaConfig>;

/** Writes PEFT's LOHA. */
export function lohaFile({ config, layers, values }: AdapterContents<LohaConfig>): AdapterFile {
  const tensors: HostTensors = {};
  const modules: Record<string, ModuleRank> = {};
  for (const path of Object.keys(layers)) {
    modules[path] = moduleRank(config, path);
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      tensors[path + suffix] = transposed(tensorAt(values, `${path}.${name}`));
    }
  }
  const { rankPattern, alphaPattern } = rankPatterns(modules, config);
  return {
    config: {
      peft_type: 'LOHA',
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
 * Reads LOHA. Ranks come from the tensors' shapes.
 * @throws CheckpointError that names the invalid tensor or field.
 */
export function readLohaFile(file: AdapterFile): { config: Partial<LohaConfig>; values: HostTensors } {
  const { config, tensors } = file;
  const suffixes = Object.values(SUFFIXES);
  const paths = adaptedPaths(tensors, suffixes);
  if (paths.length === 0) {
    throw new CheckpointError(`the file holds no tensor '<module>${SUFFIXES.hadaW1A}'`, SUFFIXES.hadaW1A);
  }
  assertNoOtherTensors(tensors, paths, suffixes);
  const alphaPattern = moduleTable(config, 'alpha_pattern');
  const values: HostTensors = {};
  const modules: Record<string, ModuleRank> = {};
  for (const path of paths) {
    modules[path] = { r: readModule(file, path, values), alpha: alphaOf(config, alphaPattern(path)) };
  }
  const usual = { ...(Object.values(modules)[0] as ModuleRank), ...numbersIn(config) };
  const present = Object.entries(FIELDS).filter(([field]) => config[field] != null);
  // Their values are validated with the other options.
  const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]]));
  return { config: { ...options, ...usual, ...rankPatterns(modules, usual), targetModules: paths }, values };
}

/** Adds a module's tensors to `values`. @returns their rank. */
function readModule(file: AdapterFile, path: string, values: HostTensors): number {
  const matrices = Object.entries(SUFFIXES).map(([name, suffix]) => {
    const matrix = matrixOf(file.tensors, path + suffix);
    values[`${path}.${name}`] = transposed(matrix);
    return [path + suffix, matrix.shape as [number, number]] as const;
  });
  const [[, [outFeatures, r]], [, [, inFeatures]]] = matrices as [Matrix, Matrix];
  assertFeatures(file, path, { inFeatures, outFeatures });
  matrices.forEach(([key, shape], index) => {
    const expected = index % 2 === 0 ? [outFeatures, r] : [r, inFeatures];
    if (shape.join() === expected.join()) return;
    throw new CheckpointError(`'${key}' is [${shape.join(', ')}]; the others need [${expected.join(', ')}]`, key);
  });
  return r;
}

type Matrix = readonly [key: string, shape: [rows: number, columns: number]];

function alphaOf(config: AdapterFile['config'], own: number | undefined): number {
  const alpha = own ?? config.alpha;
  if (typeof alpha === 'number') return alpha;
  throw new CheckpointError(`alpha is ${describe(alpha)}; expected a number`, 'alpha');
}

/** Returns the default rank and alpha that the file contains, so that it is written with them again. */
function numbersIn({ r, alpha }: AdapterFile['config']): Partial<ModuleRank> {
  return { ...(typeof r === 'number' && { r }), ...(typeof alpha === 'number' && { alpha }) };
}
