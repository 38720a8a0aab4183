import {
  assertOneRank,
  defineMethod,
  gatedLoraFiles,
  hostZeros,
  rankedPaths,
  rankUnit,
  startingRank,
  startingScaling,
  type AdapterContents,
  type CallableMethod,
  type HostTensors,
  type MatchOn,
  type Site,
} from '@peftjs/core/method';
import { parseDynamicDoraConfig, STARTING_PER_TARGET, type DynamicDoraConfig } from './config.js';
import { dynamicDoraController, resumedLayers, targetRanks } from './controller.js';
import { dynamicDoraLayer, initialTensors } from './layer.js';

/** A pruned adapter is saved as PEFT's LORA. One to be trained further is saved as DYNAMIC_DORA, with its gates. */
const files = gatedLoraFiles<DynamicDoraConfig>({
  peftType: 'DYNAMIC_DORA',
  suffix: '.lora_c',
  fields: {
    target_r: 'targetR',
    budget: 'budget',
    lora_dropout: 'loraDropout',
    dem_weight: 'demWeight',
    beta: 'beta',
    start_ratio: 'startRatio',
    end_ratio: 'endRatio',
    rank_update_ratio: 'rankUpdateRatio',
  },
  ones: [],
  scaling: startingScaling,
});

/**
 * Dynamic DoRA (Mao et al., 2024): LoRA as a sum of components of rank one, each with a gate. Components that add least
 * to their module's change are pruned during training. Not the DoRA of magnitudes and directions, which is
 * `lora({ useDora: true })`.
 *
 * @example attach(model, dynamicDora({ r: 12, targetR: 8, targetModules: 'all-linear' }))
 */
export const dynamicDora: CallableMethod<DynamicDoraConfig> = defineMethod<DynamicDoraConfig>({
  name: 'dynamic-dora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  defaultLearningRate: 4e-3,
  parseConfig: parseDynamicDoraConfig,
  fitBudget,
  adapt(sites, config, { rng }) {
    const allRanks = sites.reduce((sum, site) => sum + startingRank(site, config), 0);
    const layer = (site: Site) =>
      dynamicDoraLayer(site, config, allRanks, initialTensors(site, config, rng.fork(site.path)));
    return Object.fromEntries(sites.map((site) => [site.path, layer(site)]));
  },
  controller: dynamicDoraController,
  resumedLayers,
  peftTypes: ['DYNAMIC_DORA', 'LORA'],
  ...files,
  toFile: (adapter, options) => files.toFile({ ...adapter, config: withTarget(adapter) }, options),
  fromFile(file) {
    const { config, values } = files.fromFile(file);
    return { config, values: { ...values, ...noScores(values) } };
  },
});

/**
 * States the target in the configuration of a file, whose modules are those with ranks left: a file does not say how
 * many ranks its modules started with.
 */
function withTarget({ config, layers }: AdapterContents<DynamicDoraConfig>): DynamicDoraConfig {
  const modules = rankedPaths(layers).length;
  return config.budget !== null || modules === 0
    ? config
    : { ...config, targetR: targetRanks(layers, config) / modules };
}

/** Returns zero scores for an adapter from a file, which contains none. */
function noScores(values: HostTensors): HostTensors {
  const gates = Object.entries(values).filter(([key]) => key.endsWith('.gate'));
  return Object.fromEntries(gates.map(([key, { shape }]) => [key.replace(/gate$/, 'importance'), hostZeros(shape)]));
}

/**
 * 'stored': starts with 1.5 times the ranks that the budget pays for. 'trained': A, B and gates of the initial ranks
 * fill the budget, and two thirds of the parameters of A and B are kept.
 */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: DynamicDoraConfig,
  matchOn: MatchOn = 'stored',
): DynamicDoraConfig {
  assertOneRank(sites, budget);
  const unit = rankUnit(sites);
  const r =
    matchOn === 'stored'
      ? Math.ceil((STARTING_PER_TARGET * budget) / unit)
      : Math.max(1, Math.round(budget / (unit + sites.length)));
  const stored = matchOn === 'stored' ? budget : Math.round((r * unit) / STARTING_PER_TARGET);
  return { ...config, r, rankPattern: {}, targetR: null, budget: stored };
}

export type { DynamicDoraConfig } from './config.js';
