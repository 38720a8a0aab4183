import {
  adaptedModules,
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
  const paths = Object.keys(layers);
  const tensors: HostTensors = {};
  for (const [path, { params }] of Object.entries(layers)) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      if (name in params) tensors[path + suffix] = transposed(tensorAt(values, `${path}.${name}`));
    }
  }
  return {
    config: {
      peft_type: 'LOKR',
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
 * Reads LOKR. Ranks come from the configuration, because a whole factor does not show its rank. The resulting shapes
 * are compared with the file's when the layers are made.
 * @throws CheckpointError that names the invalid tensor or field.
 */
export function readLokrFile({ config, tensors }: AdapterFile): { config: Partial<LokrConfig>; values: HostTensors } {
  const targetModules = adaptedModules(tensors, Object.values(SUFFIXES));
  const values: HostTensors = {};
  for (const path of targetModules) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      if (path + suffix in tensors) values[`${path}.${name}`] = transposed(matrixOf(tensors, path + suffix));
    }
  }
  return { config: { ...optionsIn(config, FIELDS), ...ranksIn(config, targetModules), targetModules }, values };
}
