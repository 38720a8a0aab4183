import {
  adaptedPaths,
  CheckpointError,
  describe,
  matrixOf,
  tensorAt,
  UnsupportedError,
  refuseOtherTensors,
  type AdapterContents,
  type AdapterFile,
  type HostTensors,
} from '@peftjs/core/method';
import type { OftConfig } from './config.js';
import { TENSOR } from './layer.js';
import { projectedAtRest } from './rotation.js';

/** PEFT's names of the tensor, after the path of its module. */
const SUFFIX = '.oft_R.weight';
const OF_EMBEDDING = '.oft_embedding_R.weight';
const SUFFIXES = [SUFFIX, OF_EMBEDDING];
/** And of a trained bias: of an adapted module, and of another one. */
const BIAS = '.base_layer.bias';
const OTHER_BIAS = '.bias';

/** Options on disk, in PEFT's names. */
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

/** The version of PEFT from which on its series is the one that is computed here. */
const FIRST_WITH_SERIES: readonly [number, number] = [0, 18];

/** PEFT's OFT: the numbers above the diagonal of each block. */
export function oftFile({ config, layers, values }: AdapterContents<OftConfig>): AdapterFile {
  const tensors: HostTensors = {};
  const adapted = Object.keys(layers).filter((path) => TENSOR in tensorAt(layers, path).params);
  for (const [path, { site, params }] of Object.entries(layers)) {
    const isAdapted = TENSOR in params;
    const suffix = site.kind === 'embedding' ? OF_EMBEDDING : SUFFIX;
    if (isAdapted) tensors[path + suffix] = tensorAt(values, `${path}.${TENSOR}`);
    if ('bias' in params) tensors[path + (isAdapted ? BIAS : OTHER_BIAS)] = tensorAt(values, `${path}.bias`);
  }
  return {
    config: {
      peft_type: 'OFT',
      peft_version: '0.21.2', // below 0.18 PEFT warns of another series
      ...Object.fromEntries(Object.entries(FIELDS).map(([field, option]) => [field, config[option]])),
      target_modules: adapted,
      exclude_modules: null,
      module_dropout: 0,
      fan_in_fan_out: false,
    },
    tensors,
  };
}

/**
 * Reads OFT. `module_dropout` is left out: PEFT 0.21.2 keeps it and applies it nowhere.
 * @throws CheckpointError naming the tensor or field at fault.
 * @throws UnsupportedError for what old versions of PEFT computed otherwise.
 */
export function readOftFile({ config, tensors }: AdapterFile): { config: Partial<OftConfig>; values: HostTensors } {
  assertReadable(config, tensors);
  const paths = adaptedPaths(tensors, SUFFIXES);
  if (paths.length === 0) throw new CheckpointError(`the file holds no tensor '<module>${SUFFIX}'`, SUFFIX);
  const { biases, rotations } = apart(config, tensors, paths);
  refuseOtherTensors(rotations, paths, SUFFIXES);
  const present = Object.entries(FIELDS).filter(([field]) => config[field] != null);
  const options = Object.fromEntries(present.map(([field, option]) => [option, config[field]])); // checked with the others
  const values: HostTensors = biases;
  for (const path of paths) {
    const vectors = matrixOf(tensors, path + (path + SUFFIX in tensors ? SUFFIX : OF_EMBEDDING));
    values[`${path}.${TENSOR}`] = config.coft === true ? projectedAtRest(vectors, radiusIn(config)) : vectors;
  }
  return { config: { ...options, targetModules: paths }, values };
}

/** `eps`. PEFT projects what it reads before it uses it; trained further, this is where the first step is taken from. */
function radiusIn({ eps }: AdapterFile['config']): number {
  if (typeof eps === 'number' && eps >= 0) return eps;
  throw new CheckpointError(`eps is ${describe(eps)}; expected a number of at least 0`, 'eps');
}

/** A file's tensors: the rotations, and as values here the biases that its configuration speaks of. */
function apart(
  { bias }: AdapterFile['config'],
  tensors: HostTensors,
  adapted: readonly string[],
): { biases: HostTensors; rotations: HostTensors } {
  const [biases, rotations]: [HostTensors, HostTensors] = [{}, {}];
  const isTrained = bias === 'all' || bias === 'oft_only';
  for (const [key, tensor] of Object.entries(tensors)) {
    const suffix = key.endsWith(BIAS) ? BIAS : OTHER_BIAS;
    const path = key.slice(0, -suffix.length);
    if (isTrained && key.endsWith(suffix) && adapted.includes(path) === (suffix === BIAS)) {
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
      `the adapter is of PEFT before 0.16, which computed OFT otherwise (${old === undefined ? 'it says no' : 'it has'} '${found}'): train it anew`,
      found,
    );
  }
  if (config.use_cayley_neumann === true && isBefore(config.peft_version, FIRST_WITH_SERIES)) {
    throw new UnsupportedError(
      `peft_version is ${describe(config.peft_version)}; the series of use_cayley_neumann is another one before 0.18: train the adapter anew`,
      'peft_version',
    );
  }
}

/** Whether a version, `major.minor..`, is older; one that is missing is, for PEFT writes it since 0.18. */
function isBefore(version: unknown, [major, minor]: readonly [number, number]): boolean {
  const [first = 0, second = 0] = typeof version === 'string' ? version.split('.').map(Number) : [];
  return first < major || (first === major && second < minor);
}
