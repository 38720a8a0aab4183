import {
  adaptedPaths,
  CheckpointError,
  defineMethod,
  fullLayer,
  parseOptions,
  targetEntries,
  tensorAt,
  UnsupportedError,
  assertNoOtherTensors,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayers,
  type CallableMethod,
  type HostTensors,
  type Init,
  type Site,
  type TargetConfig,
} from '@peftjs/core/method';
import { EVERY_MODULE } from '@peftjs/core/model';

/*
 * LayerNorm tuning (Zhao et al., 2024, arXiv 2312.11420): trains only the scale and the shift of every normalization.
 *
 *   y = g * n(x) + b      n(x): x normalized, [rows, width]   g, b [width], starting from the model's values
 *
 * An RMS norm has no shift; only its g is trained.
 */

/** The options of LN tuning. `targetModules` restricts it to these normalizations. Default: all of them. */
export type LnTuningConfig = TargetConfig;

/** PEFT's suffixes of g and b after the module's path. PEFT stores them in a copy of the module. */
const SUFFIXES = { weight: '.ln_tuning_layers.weight', bias: '.ln_tuning_layers.bias' } as const;

/**
 * LN tuning (Zhao et al., 2024): trains only the normalization layers of a network.
 *
 * @example attach(model, lnTuning())
 */
export const lnTuning: CallableMethod<LnTuningConfig> = defineMethod<LnTuningConfig>({
  name: 'ln-tuning',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['layerNorm'] },
  defaultLearningRate: 3e-3,
  parseConfig(input): LnTuningConfig {
    const config = parseOptions('ln-tuning', targetEntries, input);
    return { ...config, targetModules: config.targetModules ?? EVERY_MODULE };
  },
  adapt,
  peftTypes: ['LN_TUNING'],
  toFile,
  fromFile,
});

function adapt(sites: readonly Site[], _config: LnTuningConfig, { frozen }: Init): AdapterLayers {
  return Object.fromEntries(sites.map((site) => [site.path, fullLayer(site, frozen(site.path), 'default')]));
}

/** Writes PEFT's LN_TUNING: g and b of each module, [width]. */
function toFile({ layers, values }: AdapterContents<LnTuningConfig>): AdapterFile {
  const tensors: HostTensors = {};
  for (const [path, { params }] of Object.entries(layers)) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      if (name in params) tensors[path + suffix] = tensorAt(values, `${path}.${name}`);
    }
  }
  return {
    config: { peft_type: 'LN_TUNING', target_modules: Object.keys(layers), exclude_modules: null },
    tensors,
  };
}

/**
 * Reads LN_TUNING.
 * @throws UnsupportedError for a module that is no normalization, CheckpointError for a file without one.
 */
function fromFile({ tensors, sites }: AdapterFile): { config: Partial<LnTuningConfig>; values: HostTensors } {
  const suffixes = Object.values(SUFFIXES);
  const paths = adaptedPaths(tensors, suffixes);
  if (paths.length === 0) {
    throw new CheckpointError(`the file holds no tensor '<module>${SUFFIXES.weight}'`, SUFFIXES.weight);
  }
  const other = sites?.find(({ path, kind }) => paths.includes(path) && kind !== 'layerNorm');
  if (other) {
    throw new UnsupportedError(
      `the adapter trains '${other.path}', which is ${other.kind}; ln-tuning trains only normalization layers`,
      other.path,
    );
  }
  assertNoOtherTensors(tensors, paths, suffixes);
  const values: HostTensors = {};
  for (const path of paths) {
    for (const [name, suffix] of Object.entries(SUFFIXES)) {
      const tensor = tensors[path + suffix];
      if (tensor) values[`${path}.${name}`] = tensor;
    }
  }
  return { config: { targetModules: paths }, values };
}
