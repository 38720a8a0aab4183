import {
  adaptedModules,
  CheckpointError,
  defineMethod,
  fanInFanOut,
  fixedLayer,
  floats,
  hostFilled,
  layersByPath,
  mapTensor,
  matrixOf,
  parseOptions,
  sizeOf,
  targetEntries,
  tensorAt,
  trained,
  warnOnce,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayer,
  type CallableMethod,
  type HostTensor,
  type HostTensors,
  type Site,
  type SiteRole,
  type TargetConfig,
} from '@peftjs/core/method';
import { matches } from '@peftjs/core/model';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { placed, withTargets, type PlacementRule } from './placement.js';

/*
 * IA3 (Liu et al., 2022, arXiv 2205.05638), in row vectors; l starts as a vector of ones:
 *
 *   y = (x W0 + b) * l            keys and values        l [out]     merged: W0[i, j] l[j], b[j] l[j]
 *   y = (x * l) W0 + b            feed-forward output    l [in]      merged: W0[i, j] l[i], b
 */

/** The options of IA3, with PEFT's names. */
export interface Ia3Config extends TargetConfig {
  /**
   * The adapted modules treated as feed-forward layers: the vector scales their input instead of their output. Names
   * follow the rules of `targetModules`. Default null: modules with the role `ffn.out`.
   */
  readonly feedforwardModules: string | readonly string[] | null;
}

const entries = {
  ...targetEntries,
  feedforwardModules: v.nullish(v.union([v.string(), v.array(v.string())]), null),
};

const ROLES: readonly SiteRole[] = ['attention.key', 'attention.value', 'attention.qkv', 'ffn.out'];

const rule: PlacementRule = {
  picks: ({ role }) => ROLES.includes(role),
  words: `with the role ${ROLES.map((role) => `'${role}'`).join(' or ')}`,
};

const SUFFIX = '.ia3_l';

/**
 * IA3 (Liu et al., 2022): scales keys, values and the inner activations of the feed-forward blocks by learned vectors.
 *
 * @example attach(model, ia3())
 */
export const ia3: CallableMethod<Ia3Config> = defineMethod<Ia3Config>({
  name: 'ia3',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  defaultLearningRate: 1e-2,
  parseConfig: (input): Ia3Config => withTargets(parseOptions('ia3', entries, input)),
  adapt(sites, config) {
    const adapted = placed(sites, config, rule);
    warnOfUnmatched(adapted, config);
    return layersByPath(
      adapted.map((site) => (isFeedforward(site, config) ? inputScaling(site) : outputScaling(site))),
    );
  },
  peftTypes: ['IA3'],
  readByPeft: ['IA3'],
  toFile: ia3File,
  fromFile: readIa3File,
});

/** y = (x * l) W0 + b. */
function inputScaling(site: Site): AdapterLayer {
  return fixedLayer({
    ...scaling(site, site.inFeatures),
    ignoresBase: true,
    forward: (x, p, at) => at.run({ x: tf.mul(x, tensorAt(p, 'ia3L')) }), // [rows, in] * [in] -> [rows, out]
    deltaWeight: (values, { weight }) => changeOf(weight, values, (input) => input),
  });
}

/** y = (x W0 + b) * l. */
function outputScaling(site: Site): AdapterLayer {
  const scaled = (values: HostTensors, bias: HostTensor): HostTensor => {
    const scale = floats(tensorAt(values, 'ia3L'));
    return mapTensor(bias, (value, output) => value * (scale[output] as number));
  };
  return fixedLayer({
    ...scaling(site, site.outFeatures),
    forward: (_x, p, at) => tf.mul(at.base(), tensorAt(p, 'ia3L')), // [rows, out] * [out]
    deltaWeight: (values, { weight }) => changeOf(weight, values, (_input, output) => output),
    mergedAddedBias: scaled,
    ...(site.hasBias && { mergedBias: (values, { bias }) => scaled(values, bias as HostTensor) }),
  });
}

/**
 * Returns the members common to both. There is no weight decay, which would pull the vector of ones towards zero and so
 * switch the module off.
 */
function scaling(site: Site, size: number): Pick<AdapterLayer, 'site' | 'params'> {
  return { site, params: { ia3L: trained(hostFilled([size], 1), { decay: false }) } };
}

/** Returns W0[i, j] (l[k] - 1), [in, out], where k is the index of the scaled feature. */
function changeOf(
  weight: HostTensor,
  values: HostTensors,
  featureAt: (input: number, output: number) => number,
): Float32Array {
  const scale = floats(tensorAt(values, 'ia3L'));
  const outFeatures = weight.shape[1] as number;
  return floats(weight).map((value, index) => {
    const feature = featureAt(Math.floor(index / outFeatures), index % outFeatures);
    return value * ((scale[feature] as number) - 1);
  });
}

function isFeedforward(site: Site, { feedforwardModules }: Ia3Config): boolean {
  return feedforwardModules === null ? site.role === 'ffn.out' : matches(site, feedforwardModules);
}

function warnOfUnmatched(adapted: readonly Site[], { feedforwardModules }: Ia3Config): void {
  const names = typeof feedforwardModules === 'string' ? [] : (feedforwardModules ?? []);
  const unmatched = names.filter((name) => !adapted.some((site) => matches(site, [name])));
  if (unmatched.length > 0) warnOnce(`feedforwardModules ${unmatched.join(', ')} match no adapted module`);
}

/** Writes PEFT's IA3: `<path>.ia3_l` [out, 1], or [1, in] if the input is scaled. */
function ia3File({ config, layers, values }: AdapterContents<Ia3Config>): AdapterFile {
  const tensors: HostTensors = {};
  const feedforward: string[] = [];
  for (const [path, { site }] of Object.entries(layers)) {
    const scale = tensorAt(values, `${path}.ia3L`);
    const size = sizeOf(scale.shape);
    const scalesInput = isFeedforward(site, config);
    if (scalesInput) feedforward.push(path);
    tensors[path + SUFFIX] = { ...scale, shape: scalesInput ? [1, size] : [size, 1] };
  }
  return {
    config: {
      peft_type: 'IA3',
      target_modules: Object.keys(layers),
      feedforward_modules: feedforward,
      exclude_modules: null,
      fan_in_fan_out: fanInFanOut(Object.values(layers).map(({ site }) => site)),
      init_ia3_weights: true,
    },
    tensors,
  };
}

/** Reads PEFT's IA3. The shape of a vector shows whether it scales the input. */
function readIa3File({ tensors }: AdapterFile): { config: Partial<Ia3Config>; values: HostTensors } {
  const paths = adaptedModules(tensors, [SUFFIX]);
  const values = Object.fromEntries(paths.map((path) => [`${path}.ia3L`, vectorOf(tensors, path + SUFFIX)]));
  const feedforwardModules = paths.filter((path) => tensorAt(tensors, path + SUFFIX).shape[0] === 1);
  return { config: { targetModules: paths, feedforwardModules }, values };
}

/** [out, 1] or [1, in] -> [out] or [in]. */
function vectorOf(tensors: HostTensors, key: string): HostTensor {
  const matrix = matrixOf(tensors, key);
  if (matrix.shape.includes(1)) return { ...matrix, shape: [sizeOf(matrix.shape)] };
  throw new CheckpointError(`'${key}' has shape [${matrix.shape.join(', ')}]; expected [out, 1] or [1, in]`, key);
}
