import {
  adaptedModules,
  assertFeatures,
  CheckpointError,
  fieldsOf,
  matrixOf,
  optionsIn,
  rankFields,
  ranksIn,
  tensorAt,
  type AdapterContents,
  type AdapterFile,
  type HostTensors,
} from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
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
  const paths = Object.keys(layers);
  const tensors: HostTensors = {};
  for (const path of paths) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      tensors[path + suffix] = transposed(tensorAt(values, `${path}.${name}`));
    }
  }
  return {
    config: {
      peft_type: 'LOHA',
      ...rankFields(config, paths),
      ...fieldsOf(config, FIELDS),
      target_modules: paths,
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
  const targetModules = adaptedModules(tensors, Object.values(SUFFIXES));
  const values: HostTensors = {};
  const ranks = ranksIn(config, targetModules, (path) => readModule(file, path, values));
  return { config: { ...optionsIn(config, FIELDS), ...ranks, targetModules }, values };
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
