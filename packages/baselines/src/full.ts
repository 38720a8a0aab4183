import {
  adaptedModules,
  defineMethod,
  fullLayer,
  layersByPath,
  parseOptions,
  targetEntries,
  tensorAt,
  type AdapterContents,
  type AdapterFile,
  type CallableMethod,
  type HostTensors,
  type TargetConfig,
} from '@peftjs/core/method';
import { transposed } from '@peftjs/core/linalg';
import { withTargets } from './placement.js';

/** The options of full fine-tuning. `targetModules` restricts it to these modules. */
export type FullConfig = TargetConfig;

const WEIGHT = '.weight';
const BIAS = '.bias';

/**
 * Full fine-tuning: trains all weights and biases of the model, including embeddings and layer norms. With
 * `targetModules`, trains only those of the named modules.
 *
 * @example attach(model, full())
 */
export const full: CallableMethod<FullConfig> = defineMethod<FullConfig>({
  name: 'full',
  capabilities: {
    mergeable: true,
    identityAtInit: true,
    adaptsRank: false,
    kinds: ['linear', 'embedding', 'layerNorm'],
  },
  defaultLearningRate: 1e-4,
  parseConfig: (input): FullConfig => withTargets(parseOptions('full', targetEntries, input)),
  adapt: (sites, _config, { frozen }) =>
    layersByPath(sites.map((site) => fullLayer(site, frozen(site.path), 'default'))),
  peftTypes: ['FULL'],
  toFile: fullFile,
  fromFile: readFullFile,
});

/**
 * Writes every trained tensor under its name in the model, in torch's layout: linear weights as [out, in], others
 * unchanged. `embedding_modules` lists the embedding tables, which look like linear weights.
 */
function fullFile({ layers, values }: AdapterContents): AdapterFile {
  const tensors: HostTensors = {};
  for (const [path, { site, params }] of Object.entries(layers)) {
    const weight = tensorAt(values, path + WEIGHT);
    tensors[path + WEIGHT] = site.kind === 'linear' ? transposed(weight) : weight; // [in, out] -> [out, in]
    if (params.bias) tensors[path + BIAS] = tensorAt(values, path + BIAS);
  }
  const tables = Object.values(layers).filter(({ site }) => site.kind === 'embedding');
  return {
    config: {
      peft_type: 'FULL',
      target_modules: Object.keys(layers),
      embedding_modules: tables.map(({ site }) => site.path),
    },
    tensors,
  };
}

function readFullFile({ config, tensors }: AdapterFile): { config: Partial<FullConfig>; values: HostTensors } {
  const paths = adaptedModules(tensors, [WEIGHT, BIAS]);
  const tables = Array.isArray(config.embedding_modules) ? (config.embedding_modules as unknown[]) : [];
  const values: HostTensors = {};
  for (const path of paths) {
    const weight = tensorAt(tensors, path + WEIGHT);
    const isLinear = weight.shape.length === 2 && !tables.includes(path);
    values[path + WEIGHT] = isLinear ? transposed(weight) : weight; // [out, in] -> [in, out]
    const bias = tensors[path + BIAS];
    if (bias) values[path + BIAS] = bias;
  }
  return { config: { targetModules: paths }, values };
}
