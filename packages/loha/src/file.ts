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
  refuseOtherTensors,
  type AdapterContents,
  type AdapterFile,
  type HostTensors,
  type ModuleRank,
} from '@peftjs/core/method';
import type { LohaConfig } from './config.js';

/** PEFT's names of the tensors, after the path of their module. */
const SUFFIXES = {
  hadaW1A: '.hada_w1_a', // [out, r]
  hadaW1B: '.hada_w1_b', // [r, in]
  hadaW2A: '.hada_w2_a',
  hadaW2B: '.hada_w2_b',
} as const;

/** Options on disk beside ranks and alphas, in PEFT's names. */
const FIELDS = {
  rank_dropout: 'rankDropout',
  module_dropout: 'moduleDropout',
  init_weights: 'initWeights',
} as const satisfies Record<string, keyof LohaConfig>;

/** PEFT's LOHA. */
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
      use_effective_conv2d: false, // of convolutions
    },
    tensors,
  };
}

/**
 * Reads LOHA. Ranks come from the tensors' shapes.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function readLohaFile(file: AdapterFile): { config: Partial<LohaConfig>; values: HostTensors } {
  const { config, tensors } = file;
  const suffixes = Object.values(SUFFIXES);
  const paths = adaptedPaths(tensors, suffixes);
  if (paths.length === 0) {
    throw new CheckpointError(`the file holds no tensor '<module>${SUFFIXES.hadaW1A}'`, SUFFIXES.hadaW1A);
  }
  refuseOtherTensors(tensors, paths, suffixes);
  const alphaPattern = moduleTable(config, 'alpha_pattern');
  const values: HostTensors = {};
  const modules: Record<string, ModuleRank> = {};
  for (const path of paths) {
    modules[path] = { r: readModule(file, path, values), alpha: alphaOf(config, alphaPattern(path)) };
  }
  const usual = { ...(Object.values(modules)[0] as ModuleRank), ...numbersIn(config) };
  const present = Object.entries(FIELDS).filter(([field]) => config[field] != null);
  const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]])); // checked with the others
  return { config: { ...options, ...usual, ...rankPatterns(modules, usual), targetModules: paths }, values };
}

/** Puts a module's tensors among `values`. @returns their rank */
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
    throw new CheckpointError(`'${key}' is [${shape.join(', ')}]; the others ask for [${expected.join(', ')}]`, key);
  });
  return r;
}

type Matrix = readonly [key: string, shape: [rows: number, columns: number]];

function alphaOf(config: AdapterFile['config'], own: number | undefined): number {
  const alpha = own ?? config.alpha;
  if (typeof alpha === 'number') return alpha;
  throw new CheckpointError(`alpha is ${describe(alpha)}; expected a number`, 'alpha');
}

/** The usual rank and alpha, where the file says them: what it is written with again. */
function numbersIn({ r, alpha }: AdapterFile['config']): Partial<ModuleRank> {
  return { ...(typeof r === 'number' && { r }), ...(typeof alpha === 'number' && { alpha }) };
}
