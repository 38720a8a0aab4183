import * as v from 'valibot';
import { defineMethod } from '../adapter/attach.js';
import { targetEntries } from '../adapter/targets.js';
import { dropoutRate, integerFrom, parseOptions, positive } from '../config.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import type { CallableMethod, PeftMethod } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { rankFiles } from '../files/lora-ranks.js';
import { createRng } from '../rng.js';
import { tensorAt, type HostTensors } from '../tensors.js';
import {
  assertOneRank,
  ranksForBudget,
  rankCost,
  startingRank,
  startingRankForBudget,
  startingScaling,
  withRanksForBudget,
} from './budget.js';
import { allocatedRanks, withRankCounts } from './changes.js';
import { assertStartFits } from './competition.js';
import type { RankConfig, RankMethod } from './definition.js';
import { rankLayer } from './rank-layer.js';
import { rankController, type RankMaker } from './rank-policy.js';

/** Schema entries for the options that methods of low rank share. @param defaults those of the method */
export const rankEntries = (defaults: Pick<RankConfig, 'r' | 'loraAlpha'>) => ({
  ...targetEntries,
  r: v.optional(integerFrom(1), defaults.r),
  loraAlpha: v.optional(positive, defaults.loraAlpha),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
});

/** The schema entry of dropout. */
export const dropoutEntries = {
  /** The dropout probability of each module's input, applied before A during training. Default 0. */
  loraDropout: v.optional(dropoutRate, 0),
};

/** The schema entry of a budget, for methods without other kinds of budget. */
export const budgetEntries = {
  /** The number of parameters stored at the end, met within 2 %. Default null: no budget. */
  budget: v.nullish(positive, null),
};

/**
 * Makes a method of the form
 *
 *     y  = x W0 + b + s ((d(x) A) * g) B      x [rows, in]   A [in, r]   g [r], or none   B [r, out]   d: dropout
 *     s  = alpha / r                          with the initial r of the module
 *     dW = s A diag(g) B
 *
 * from what is its own: start values, the rule in the step, and a policy that chooses ranks. Core owns the forward pass,
 * dropout, counting, budgets, files, changes of rank, and resuming.
 */
export function rankMethod<C extends RankConfig>(given: RankMethod<C>): CallableMethod<C> {
  const { defaults, options, complete, identityAtInit = true, budget, file, ...rest } = given;
  const { start, unsaved, train, loss, update, policy, ...method } = rest;
  const { name } = method;
  const entries = { ...rankEntries(defaults), ...options };
  const parseConfig = (input: unknown): C => {
    const parsed = parseOptions(name, entries, input) as RankConfig as C;
    return complete ? complete(parsed) : parsed;
  };
  const layerOf = (site: Site, config: C, initial: HostTensors, ranks: number): AdapterLayer =>
    rankLayer(site, {
      initial,
      scaling: startingScaling(site, config),
      dropout: config.loraDropout,
      train: train?.(config),
      loss: loss?.(config, { ranks }),
      update: update && ((proposed, at) => update(proposed, at, config)),
    });
  const maker = (layers: AdapterLayers, config: C): RankMaker => ({
    name,
    newRanks: (path, count, rng) => start(tensorAt(layers, path).site, count, config, rng),
    withRanks(counts) {
      const ranks = ranksAtStart(Object.values(layers), config);
      const grown = Object.entries(layers).map(([path, layer], index): [string, AdapterLayer] => {
        const count = counts[index] ?? 0;
        // Only shapes matter for what is drawn here: the run's values replace it.
        if (budget !== 'moves' || count <= allocatedRanks(layer)) return [path, layer];
        return [path, layerOf(layer.site, config, start(layer.site, count, config, createRng(0)), ranks)];
      });
      return withRankCounts(Object.fromEntries(grown), counts);
    },
  });
  return defineMethod<C>({
    parseConfig,
    fitBudget: fittedTo(given),
    ...method,
    capabilities: { mergeable: true, identityAtInit, adaptsRank: policy !== undefined, kinds: ['linear'] },
    adapt(sites, config, { rng }) {
      const ranks = ranksAtStart(
        sites.map((site) => ({ site })),
        config,
      );
      return Object.fromEntries(
        sites.map((site) => {
          const initial = start(site, startingRank(site, config), config, rng.fork(site.path));
          return [site.path, layerOf(site, config, initial, ranks)];
        }),
      );
    },
    ...(policy && {
      controller(layers, config, plan) {
        if (budget === 'moves' && typeof config.budget === 'number') assertStartFits(layers, config.budget);
        const own = policy(layers, config, plan);
        return own && rankController(layers, own, maker(layers, config), plan);
      },
      resumedLayers({ layers, config, values }) {
        const ranks = (path: string) => values[`${path}.gate`] ?? values[`${path}.loraA`]; // [r], or [in, r]
        const counts = Object.keys(layers).map((path) => ranks(path)?.shape.at(-1) ?? 0);
        return maker(layers, config).withRanks(counts);
      },
    }),
    ...rankFiles({ options, unsaved, file }),
  });
}

/** Counts the ranks that an adapter starts with. */
function ranksAtStart(layers: readonly Pick<AdapterLayer, 'site'>[], config: RankConfig): number {
  return layers.reduce((sum, { site }) => sum + startingRank(site, config), 0);
}

/**
 * Returns `fitBudget`. 'stored' keeps the budget as an option: ranks that move fill it, ranks that are pruned start above
 * it. 'trained': A, B and the other trained tensors fill it at the start, and no rank has to go.
 */
function fittedTo<C extends RankConfig>({
  budget: kind,
  train,
}: RankMethod<C>): NonNullable<PeftMethod<C>['fitBudget']> {
  return (sites, budget, config, matchOn = 'stored') => {
    const vectors = Object.keys(train?.(config) ?? FACTORS).length - FACTORS.length;
    const cost = (site: Site): number => rankCost(site) + (matchOn === 'trained' ? vectors : 0);
    const kept = matchOn === 'stored' ? budget : null;
    if (kind !== 'prunes') {
      return { ...withRanksForBudget(sites, budget, config, cost), ...(kind === 'moves' && { budget: kept }) };
    }
    if (matchOn === 'trained') {
      const { r, rankPattern } = ranksForBudget(sites, budget, cost);
      return { ...config, r, rankPattern, budget: kept };
    }
    assertOneRank(sites, budget);
    return { ...config, r: startingRankForBudget(sites, budget), rankPattern: {}, budget: kept };
  };
}

const FACTORS = ['loraA', 'loraB'];
