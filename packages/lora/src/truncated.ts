import {
  assertPrunable,
  assertOneRank,
  pruneStep,
  defineMethod,
  loraFile,
  missedStep,
  parseOptions,
  positive,
  rankCost,
  rankedPaths,
  ranksForBudget,
  startingRankForBudget,
  RANKS_PER_KEPT_RANK,
  readLoraFile,
  tensorAt,
  truncateToBudget,
  withRankCounts,
  type AdapterContents,
  type AdapterLayer,
  type AdapterLayers,
  type CallableMethod,
  type Controller,
  type ControllerChanges,
  type HostTensors,
  type Init,
  type MatchOn,
  type Site,
  type TargetConfig,
  type TrainPlan,
} from '@peftjs/core/method';
import * as v from 'valibot';
import { parseLoraConfig, plainEntries, type LoraConfig } from './config.js';
import { changeOf, plainLayer } from './layer.js';
import { initialFactors } from './starts.js';

/**
 * A control for methods that choose ranks during training: a LoRA of high rank that is cut once to a budget, by the
 * singular values of its changes, and then trained further in the final phase. The result is a LoRA whose ranks differ
 * between modules.
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

/** 'stored': r_max is above the budget's average rank, as in SoRA. 'trained': r_max fills it; two thirds are kept. */
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
  return { ...config, r: startingRankForBudget(sites, budget), rankPattern: {}, budget };
}

function adapt(sites: readonly Site[], { budget: _, ...config }: TruncatedLoraConfig, init: Init): AdapterLayers {
  const plain = parseLoraConfig(config);
  const starts = initialFactors(sites, plain, init);
  return Object.fromEntries(
    sites.map((site) => [site.path, resizable(plainLayer(changeOf(site, plain, tensorAt(starts, site.path))))]),
  );
}

/** Makes the layer count its ranks from its values. */
function resizable(layer: AdapterLayer): AdapterLayer {
  const rank = (values: HostTensors): number => tensorAt(values, 'loraA').shape[1] as number;
  return { ...layer, counted: ['loraA'], rank, storedParameters: (values) => rank(values) * rankCost(layer.site) };
}

/** Resizes layers to values from after the cut. */
function resumedLayers({ layers, values }: AdapterContents<TruncatedLoraConfig>): AdapterLayers {
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.loraA`]?.shape[1] ?? 0),
  );
}

/** The options of truncated LoRA: those of plain LoRA, with `r` as the rank before the cut, and a budget. */
export interface TruncatedLoraConfig
  extends TargetConfig, Pick<LoraConfig, 'r' | 'loraAlpha' | 'rankPattern' | 'alphaPattern' | 'loraDropout'> {
  /** The number of parameters stored from the final phase on, met within 1 %; null never cuts. Default null. */
  readonly budget: number | null;
}

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
function parseTruncatedConfig(input: unknown): TruncatedLoraConfig {
  return parseOptions('truncated-lora', { ...plainEntries, budget: v.nullish(positive, null) }, input);
}

/**
 * Cuts the layers to a budget once, after the last step before the final phase.
 * @throws ConfigError when the budget is out of reach or no step comes before the cut.
 */
function truncationController(layers: AdapterLayers, budget: number, plan: TrainPlan): Controller {
  assertPrunable(layers, budget, plan);
  const due = pruneStep(plan);
  const memory = { cut: false };
  return {
    scalars(step) {
      if (step > due && !memory.cut) throw missedStep('the adapter was not cut to its budget', step, due);
      return {};
    },
    reads: (step) => (step === due ? rankedPaths(layers).flatMap((path) => [`${path}.loraA`, `${path}.loraB`]) : []),
    afterStep(_step, values): ControllerChanges {
      memory.cut = true;
      return { resized: truncateToBudget(layers, values, budget) };
    },
    holdsBudget: (step) => memory.cut && step >= due,
    snapshot: () => ({ ...memory }),
    restore: (state) => void Object.assign(memory, state),
  };
}
