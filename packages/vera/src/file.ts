import {
  adaptedPaths,
  CheckpointError,
  matrixOf,
  tensorAt,
  transposed,
  warnOfUnknownTensors,
  type AdapterContents,
  type AdapterFile,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core';
import type { VeraConfig } from './config.js';

/** PEFT's names of d and b, after the path of their module, and of what all modules share. */
const OF_MODULE = { veraLambdaD: '.vera_lambda_d', veraLambdaB: '.vera_lambda_b' } as const;
const SHARED = { veraA: 'vera_A', veraB: 'vera_B' } as const;

const SUFFIXES = Object.values(OF_MODULE);

/** Options on disk, in PEFT's names. */
const FIELDS = {
  r: 'r',
  projection_prng_key: 'projectionPrngKey',
  save_projection: 'saveProjection',
  vera_dropout: 'veraDropout',
  d_initial: 'dInitial',
} as const satisfies Record<string, keyof VeraConfig>;

/** PEFT's VERA: `<path>.vera_lambda_d` [r] and `vera_lambda_b` [out], and once `vera_A` [r, in] and `vera_B` [out, r]. */
export function veraFile({ config, layers, values }: AdapterContents<VeraConfig>): AdapterFile {
  const tensors: HostTensors = {};
  for (const path of Object.keys(layers)) {
    for (const [name, suffix] of Object.entries(OF_MODULE))
      tensors[path + suffix] = tensorAt(values, `${path}.${name}`);
  }
  if (config.saveProjection) {
    for (const [name, key] of Object.entries(SHARED)) tensors[key] = transposed(tensorAt(values, name));
  }
  return {
    config: {
      peft_type: 'VERA',
      ...Object.fromEntries(Object.entries(FIELDS).map(([field, option]) => [field, config[option]])),
      target_modules: Object.keys(layers),
      bias: 'none',
      fan_in_fan_out: false,
      init_weights: true,
    },
    tensors,
  };
}

/**
 * Reads VERA. Without `vera_A` and `vera_B` they are drawn anew from the seed.
 * @throws CheckpointError naming the tensor or field at fault.
 */
export function readVeraFile({ config, tensors }: AdapterFile): { config: Partial<VeraConfig>; values: HostTensors } {
  const paths = adaptedPaths(tensors, SUFFIXES);
  if (paths.length === 0) {
    throw new CheckpointError(`the file holds no tensor '<module>${OF_MODULE.veraLambdaD}'`, OF_MODULE.veraLambdaD);
  }
  const { vera_A: veraA, vera_B: veraB, ...own } = tensors;
  warnOfUnknownTensors(own, paths, SUFFIXES);
  const values: HostTensors = {};
  for (const path of paths) {
    for (const [name, suffix] of Object.entries(OF_MODULE)) values[`${path}.${name}`] = vectorOf(own, path + suffix);
  }
  if (veraA || veraB || config.save_projection === true) {
    for (const [name, key] of Object.entries(SHARED)) values[name] = transposed(matrixOf(tensors, key));
  }
  const present = Object.entries(FIELDS).filter(([field]) => config[field] !== undefined);
  const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]])); // checked with the others
  return { config: { ...options, targetModules: paths }, values };
}

function vectorOf(tensors: HostTensors, key: string): HostTensor {
  const vector = tensors[key];
  if (!vector) throw new CheckpointError(`the tensor '${key}' is missing`, key);
  if (vector.dtype === 'float32' && vector.shape.length === 1) return vector;
  throw new CheckpointError(`'${key}' is ${vector.dtype} [${vector.shape.join(', ')}]; expected a float32 vector`, key);
}
