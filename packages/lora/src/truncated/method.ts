import {
  assertOneRank,
  defineMethod,
  loraFile,
  rankCost,
  ranksForBudget,
  rankUnit,
  readLoraFile,
  tensorAt,
  withRankCounts,
  type AdapterContents,
  type AdapterLayer,
  type AdapterLayers,
  type CallableMethod,
  type HostTensors,
  type Init,
  type MatchOn,
  type Site,
} from '@peftjs/core';
import { parseLoraConfig } from '../config.js';
import { changeOf, plainLayer } from '../layer.js';
import { startsOf } from '../starts.js';
import { parseTruncatedConfig, type TruncatedLoraConfig } from './config.js';
import { truncationController } from './controller.js';

/** Ranks at the start for each that is kept on average, as those give themselves that choose ranks while they train. */
const RANKS_PER_KEPT_RANK = 1.5;

/**
 * The control for methods that choose ranks while they train: a LoRA of generous rank, cut once to a budget by the singular
 * values of its changes, and trained on in the final phase. What it leaves is a LoRA whose ranks differ from module to module.
 *
 * @example attach(model, truncatedLora({ r: 12, budget: 60_000 }))
 */
export const truncatedLora: CallableMethod<TruncatedLoraConfig> = defineMethod<TruncatedLoraConfig>({
  name: 'truncated-lora',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: true, kinds: ['linear'] },
  parseConfig: parseTruncatedConfig,
  fitBudget,
  adapt,
  controller: (layers, { budget }, plan) => (budget === null ? undefined : truncationController(layers, budget, plan)),
  resumedLayers,
  peftTypes: ['LORA'],
  toFile: loraFile,
  fromFile(file) {
    const { values, ...config } = readLoraFile(file);
    return { config, values };
  },
});

/** Stored: r_max is half as much again as the budget keeps on average. Trained: r_max is the budget, and two thirds of it stay. */
function fitBudget(
  sites: readonly Site[],
  budget: number,
  config: TruncatedLoraConfig,
  matchOn: MatchOn = 'stored',
): TruncatedLoraConfig {
  assertOneRank(sites, budget);
  if (matchOn === 'trained') {
    const { cost, ...ranks } = ranksForBudget(sites, budget);
    return { ...config, ...ranks, budget: Math.round(cost / RANKS_PER_KEPT_RANK) };
  }
  return { ...config, r: Math.ceil((RANKS_PER_KEPT_RANK * budget) / rankUnit(sites)), rankPattern: {}, budget };
}

function adapt(sites: readonly Site[], { budget: _, ...config }: TruncatedLoraConfig, init: Init): AdapterLayers {
  const plain = parseLoraConfig(config);
  const starts = startsOf(sites, plain, init);
  return Object.fromEntries(
    sites.map((site) => [site.path, resizable(plainLayer(changeOf(site, plain, tensorAt(starts, site.path))))]),
  );
}

/** The layer, counted by the ranks that its values have. */
function resizable(layer: AdapterLayer): AdapterLayer {
  const rank = (values: HostTensors): number => tensorAt(values, 'loraA').shape[1] as number;
  return { ...layer, rank, storedParameters: (values) => rank(values) * rankCost(layer.site) };
}

/** The layers that values from after the cut fit. */
function resumedLayers({ layers, values }: AdapterContents<TruncatedLoraConfig>): AdapterLayers {
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.loraA`]?.shape[1] ?? 0),
  );
}
