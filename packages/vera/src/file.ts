import {
  CheckpointError,
  describe,
  fanInFanOut,
  fieldsOf,
  mapValues,
  matrixOf,
  optionsIn,
  readTensors,
  tensorAt,
  UnsupportedError,
  writtenTensors,
  type HostTensor,
  type HostTensors,
  type ModuleTensors,
  type PeftMethod,
} from '@peftjs/core/method';
import { pickRows, transposed } from '@peftjs/core/linalg';
import { savesProjection, type VeraConfig } from './config.js';
import { indices, widest } from './layer.js';

/** PEFT's names of d and b, which every module has, and of the shared matrices, [r, in] and [out, r] on disk. */
const OWN: ModuleTensors = { veraLambdaD: ['.vera_lambda_d', 'r'], veraLambdaB: ['.vera_lambda_b', 'out'] };
const SHARED = { vera_A: 'veraA', vera_B: 'veraB' } as const;

/** PEFT's fields and their options. */
const FIELDS = {
  r: 'r',
  projection_prng_key: 'projectionPrngKey',
  save_projection: 'saveProjection',
  vera_dropout: 'veraDropout',
  d_initial: 'dInitial',
} as const satisfies Record<string, keyof VeraConfig>;

/** PEFT's VERA: d and b of each module, and once A and B. If A and B are missing, they are drawn from the seed. */
export const veraFiles: Pick<PeftMethod<VeraConfig>, 'peftTypes' | 'toFile' | 'fromFile'> = {
  peftTypes: ['VERA'],
  toFile({ config, layers, values }) {
    const isSaved = savesProjection(config);
    const shared = mapValues(isSaved ? SHARED : {}, (name) => transposed(tensorAt(values, name)));
    return {
      config: {
        peft_type: 'VERA',
        ...fieldsOf(config, FIELDS),
        save_projection: isSaved,
        target_modules: Object.keys(layers),
        bias: 'none',
        fan_in_fan_out: fanInFanOut(Object.values(layers).map(({ site }) => site)),
        init_weights: true,
      },
      tensors: { ...writtenTensors({ layers, values }, OWN), ...shared },
    };
  },
  fromFile({ config, tensors, ...file }) {
    const { bias = 'none', save_projection: isSaved } = config;
    if (bias !== 'none') {
      throw new UnsupportedError(
        `the adapter was trained with bias ${describe(bias)}; VeRA supports only 'none'`,
        'bias',
      );
    }
    const { vera_A: veraA, vera_B: veraB, ...own } = tensors;
    const { targetModules, values, sizes } = readTensors({ ...file, config, tensors: own }, OWN);
    if (veraA || veraB || isSaved === true) {
      const used = file.sites?.filter(({ path }) => targetModules.includes(path));
      Object.assign(values, sharedMatrices(tensors, used && widest(used)));
    }
    const ranks = [...new Set(Object.values(sizes).map(({ r }) => r))];
    const [r = 0] = ranks;
    if (ranks.length === 1 && (config.r ?? r) === r) {
      return { config: { ...optionsIn(config, FIELDS), r, targetModules }, values };
    }
    const held = ranks.join(' and ');
    throw new CheckpointError(`r is ${describe(config.r)}, but the tensors hold ${held} ranks: expected one r`, 'r');
  },
};

/**
 * Reads A and B as far as modules of these features use them: in PEFT, those of all adapters of a model are as wide as
 * its first VeRA needs.
 */
function sharedMatrices(
  tensors: HostTensors,
  [inFeatures, outFeatures]: readonly [number, number] = [Infinity, Infinity],
): HostTensors {
  const veraA = transposed(matrixOf(tensors, 'vera_A')); // [in, r]
  const veraB = matrixOf(tensors, 'vera_B'); // [out, r]
  return { veraA: firstRows(veraA, inFeatures), veraB: transposed(firstRows(veraB, outFeatures)) };
}

function firstRows(matrix: HostTensor, most: number): HostTensor {
  return pickRows(matrix, indices(Math.min(matrix.shape[0] as number, most)));
}
