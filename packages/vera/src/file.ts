import {
  adaptedModules,
  assertFeatures,
  CheckpointError,
  describe,
  fanInFanOut,
  fieldsOf,
  matrixOf,
  optionsIn,
  sizeOf,
  tensorAt,
  UnsupportedError,
  vectorOf,
  type AdapterContents,
  type AdapterFile,
  type HostTensors,
} from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
import { savesProjection, type VeraConfig } from './config.js';

/** PEFT's suffixes of d and b after the module's path, and PEFT's names of the shared matrices. */
const MODULE_SUFFIXES = { veraLambdaD: '.vera_lambda_d', veraLambdaB: '.vera_lambda_b' } as const;
const SHARED = { veraA: 'vera_A', veraB: 'vera_B' } as const;

const SUFFIXES = Object.values(MODULE_SUFFIXES);

/** PEFT's fields and their options. */
const FIELDS = {
  r: 'r',
  projection_prng_key: 'projectionPrngKey',
  save_projection: 'saveProjection',
  vera_dropout: 'veraDropout',
  d_initial: 'dInitial',
} as const satisfies Record<string, keyof VeraConfig>;

/**
 * Writes PEFT's VERA: `<path>.vera_lambda_d` [r] and `vera_lambda_b` [out], and once `vera_A` [r, in] and `vera_B`
 * [out, r].
 */
export function veraFile({ config, layers, values }: AdapterContents<VeraConfig>): AdapterFile {
  const tensors: HostTensors = {};
  for (const path of Object.keys(layers)) {
    for (const [name, suffix] of Object.entries(MODULE_SUFFIXES))
      tensors[path + suffix] = tensorAt(values, `${path}.${name}`);
  }
  if (savesProjection(config)) {
    for (const [name, key] of Object.entries(SHARED)) tensors[key] = transposed(tensorAt(values, name));
  }
  return {
    config: {
      peft_type: 'VERA',
      ...fieldsOf(config, FIELDS),
      save_projection: savesProjection(config),
      target_modules: Object.keys(layers),
      bias: 'none',
      fan_in_fan_out: fanInFanOut(Object.values(layers).map(({ site }) => site)),
      init_weights: true,
    },
    tensors,
  };
}

/**
 * Reads VERA. If `vera_A` and `vera_B` are missing, they are drawn from the seed.
 * @throws CheckpointError that names the invalid tensor or field.
 * @throws UnsupportedError for trained biases.
 */
export function readVeraFile(file: AdapterFile): { config: Partial<VeraConfig>; values: HostTensors } {
  const { config, tensors } = file;
  assertNoBias(config);
  const { vera_A: veraA, vera_B: veraB, ...own } = tensors;
  const paths = adaptedModules(own, SUFFIXES);
  const values: HostTensors = {};
  for (const path of paths) {
    const [d, b] = [
      vectorOf(own, path + MODULE_SUFFIXES.veraLambdaD),
      vectorOf(own, path + MODULE_SUFFIXES.veraLambdaB),
    ];
    assertFeatures(file, path, { outFeatures: sizeOf(b.shape) });
    Object.assign(values, { [`${path}.veraLambdaD`]: d, [`${path}.veraLambdaB`]: b });
  }
  const r = rankOf(config, paths, values);
  if (veraA || veraB || config.save_projection === true) {
    for (const [name, key] of Object.entries(SHARED)) values[name] = transposed(matrixOf(tensors, key));
  }
  return { config: { ...optionsIn(config, FIELDS), r, targetModules: paths }, values };
}

/** @throws UnsupportedError for trained biases. */
function assertNoBias({ bias = 'none' }: AdapterFile['config']): void {
  if (bias === 'none') return;
  throw new UnsupportedError(`the adapter was trained with bias ${describe(bias)}; VeRA supports only 'none'`, 'bias');
}

/**
 * Returns the rank of all modules from the length of d.
 * @throws CheckpointError when ranks differ from each other or from `r`.
 */
function rankOf(config: AdapterFile['config'], paths: readonly string[], values: HostTensors): number {
  const rankAt = (path: string): number => sizeOf(tensorAt(values, `${path}.veraLambdaD`).shape);
  const r = rankAt(paths[0] as string);
  const odd = paths.find((path) => rankAt(path) !== r);
  if (odd === undefined && (config.r === undefined || config.r === r)) return r;
  throw new CheckpointError(
    odd === undefined
      ? `r is ${describe(config.r)}, but the tensors hold ${r} ranks`
      : `'${odd}${MODULE_SUFFIXES.veraLambdaD}' holds ${rankAt(odd)} ranks; expected ${r}, as in '${paths[0] as string}'`,
    odd === undefined ? 'r' : odd + MODULE_SUFFIXES.veraLambdaD,
  );
}
