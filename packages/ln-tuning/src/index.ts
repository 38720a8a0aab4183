import {
  defineMethod,
  fileFormat,
  fullLayer,
  layersByPath,
  parseOptions,
  targetEntries,
  UnsupportedError,
  type AdapterFile,
  type CallableMethod,
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

/** PEFT's suffix of g. PEFT stores g and b in a copy of the module. */
const WEIGHT = '.ln_tuning_layers.weight';

/** PEFT's LN_TUNING: g and, where there is one, b of each module. */
const format = fileFormat<LnTuningConfig>({
  peftType: 'LN_TUNING',
  tensors: { weight: [WEIGHT, 'out'], bias: ['.ln_tuning_layers.bias', 'out'] },
  partial: true,
  others: { exclude_modules: null },
});

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
  adapt: (sites, _config, { frozen }) =>
    layersByPath(sites.map((site) => fullLayer(site, frozen(site.path), 'default'))),
  ...format,
  readByPeft: ['LN_TUNING'],
  fromFile(file) {
    assertNorms(file);
    return format.fromFile(file);
  },
});

/** @throws UnsupportedError when a file trains modules that are not normalizations. */
function assertNorms({ tensors, sites = [] }: AdapterFile): void {
  const other = sites.find(({ path, kind }) => kind !== 'layerNorm' && path + WEIGHT in tensors);
  if (!other) return;
  throw new UnsupportedError(
    `the adapter trains '${other.path}', which is ${other.kind}; ln-tuning trains only normalization layers`,
    other.path,
  );
}
