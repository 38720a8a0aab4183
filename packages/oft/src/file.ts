import {
  adaptedModules,
  CheckpointError,
  describe,
  fieldsOf,
  matrixOf,
  optionsIn,
  tensorAt,
  UnsupportedError,
  type AdapterContents,
  type AdapterFile,
  type HostTensors,
} from '@peftjs/core/method';
import type { OftConfig } from './config.js';
import { TENSOR } from './layer.js';
import { projectedOnHost } from './rotation.js';

/** PEFT's suffixes of the tensor after the module's path. */
const SUFFIX = '.oft_R.weight';
const EMBEDDING_SUFFIX = '.oft_embedding_R.weight';
const SUFFIXES = [SUFFIX, EMBEDDING_SUFFIX];
/** The suffixes of a trained bias, in an adapted module and in another one. */
const BIAS = '.base_layer.bias';
const OTHER_BIAS = '.bias';

/** PEFT's fields and their options. */
const FIELDS = {
  r: 'r',
  oft_block_size: 'oftBlockSize',
  block_share: 'blockShare',
  coft: 'coft',
  eps: 'eps',
  use_cayley_neumann: 'useCayleyNeumann',
  num_cayley_neumann_terms: 'numCayleyNeumannTerms',
  init_weights: 'initWeights',
  bias: 'bias',
} as const satisfies Record<string, keyof OftConfig>;

/** The first version of PEFT whose series is the one computed here. */
const FIRST_WITH_SERIES: readonly [number, number] = [0, 18];

/** Writes PEFT's OFT: the entries above the diagonal of each Q. */
export function oftFile({ config, layers, values }: AdapterContents<OftConfig>): AdapterFile {
  const tensors: HostTensors = {};
  const adapted = Object.keys(layers).filter((path) => TENSOR in tensorAt(layers, path).params);
  for (const [path, { site, params }] of Object.entries(layers)) {
    const isAdapted = TENSOR in params;
    const suffix = site.kind === 'embedding' ? EMBEDDING_SUFFIX : SUFFIX;
    if (isAdapted) tensors[path + suffix] = tensorAt(values, `${path}.${TENSOR}`);
    if ('bias' in params) tensors[path + (isAdapted ? BIAS : OTHER_BIAS)] = tensorAt(values, `${path}.bias`);
  }
  return {
    config: {
      peft_type: 'OFT',
      peft_version: '0.21.2', // PEFT warns about another series below 0.18
      ...fieldsOf(config, FIELDS),
      target_modules: adapted,
      exclude_modules: null,
      module_dropout: 0,
      fan_in_fan_out: false,
    },
    tensors,
  };
}

/**
 * Reads OFT. Ignores `module_dropout`, which PEFT 0.21.2 stores but applies nowhere.
 * @throws CheckpointError that names the invalid tensor or field.
 * @throws UnsupportedError for files of old PEFT versions that compute OFT differently.
 */
export function readOftFile({ config, tensors }: AdapterFile): { config: Partial<OftConfig>; values: HostTensors } {
  assertReadable(config, tensors);
  const { biases, rotations } = splitTensors(config, tensors);
  const paths = adaptedModules(rotations, SUFFIXES);
  const values: HostTensors = biases;
  for (const path of paths) {
    const vectors = matrixOf(tensors, path + (path + SUFFIX in tensors ? SUFFIX : EMBEDDING_SUFFIX));
    values[`${path}.${TENSOR}`] = config.coft === true ? projectedOnHost(vectors, radiusIn(config)) : vectors;
  }
  return { config: { ...optionsIn(config, FIELDS), targetModules: paths }, values };
}

/** Returns `eps`. PEFT projects Q before it uses it, so values are projected when they are read. */
function radiusIn({ eps }: AdapterFile['config']): number {
  if (typeof eps === 'number' && eps >= 0) return eps;
  throw new CheckpointError(`eps is ${describe(eps)}; expected a number of at least 0`, 'eps');
}

/** Splits a file's tensors into rotations, by key, and declared biases, by their names in values. */
function splitTensors(
  { bias }: AdapterFile['config'],
  tensors: HostTensors,
): { biases: HostTensors; rotations: HostTensors } {
  const [biases, rotations]: [HostTensors, HostTensors] = [{}, {}];
  const isTrained = bias === 'all' || bias === 'oft_only';
  for (const [key, tensor] of Object.entries(tensors)) {
    const suffix = key.endsWith(BIAS) ? BIAS : OTHER_BIAS;
    const path = key.slice(0, -suffix.length);
    const isAdapted = SUFFIXES.some((each) => path + each in tensors);
    if (isTrained && key.endsWith(suffix) && isAdapted === (suffix === BIAS)) {
      biases[`${path}.bias`] = tensor;
    } else rotations[key] = tensor;
  }
  return { biases, rotations };
}

function assertReadable(config: AdapterFile['config'], tensors: HostTensors): void {
  const old = Object.keys(tensors).find((key) => key.includes('.oft_r.'));
  if (old !== undefined || config.oft_block_size === undefined) {
    const found = old ?? 'oft_block_size';
    throw new UnsupportedError(
      `the adapter is from PEFT before 0.16, which computes OFT differently (it has ${old === undefined ? 'no ' : ''}'${found}'): retrain it`,
      found,
    );
  }
  if (config.use_cayley_neumann === true && isBefore(config.peft_version, FIRST_WITH_SERIES)) {
    throw new UnsupportedError(
      `peft_version is ${describe(config.peft_version)}; PEFT before 0.18 has another use_cayley_neumann series: retrain the adapter`,
      'peft_version',
    );
  }
}

/** Returns whether a version `major.minor..` is older. A missing one is older: PEFT has written it since 0.18. */
function isBefore(version: unknown, [major, minor]: readonly [number, number]): boolean {
  const [first = 0, second = 0] = typeof version === 'string' ? version.split('.').map(Number) : [];
  return first < major || (first === major && second < minor);
}
