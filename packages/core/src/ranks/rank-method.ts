import { defineMethod } from '../adapter/attach.js';
import { patternValue } from '../adapter/targets.js';
import { parseOptions } from '../config.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import type { CallableMethod, PeftMethod } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { rankFiles } from '../files/lora-ranks.js';
import { createRng } from '../rng.js';
import { sumOf, tensorAt, type HostTensors } from '../tensors.js';
import {
  alphasFor,
  assertOneRank,
  ranksForBudget,
  rankCost,
  RANKS_PER_KEPT_RANK,
  startingRank,
  startingRankForBudget,
  withRanksForBudget,
} from './budget.js';
import { allocatedRanks, withRankCounts } from './changes.js';
import { assertPrunable, assertStartFits } from './competition.js';
import { rankEntries, type RankConfig, type RankMethod } from './definition.js';
import { rankLayer } from './rank-layer.js';
import { rankController, type RankMaker } from './rank-policy.js';

/**
 * Makes a method of the form
 *
 *     y  = x W0 + b + s ((d(x) A) * g) B      x [rows, in]   A [in, r]   g [r], or none   B [r, out]   d: dropout
 *     s  = alpha / r                          with the initial r of the module
 *     dW = s A diag(g) B
 *
 * from what is its own: start values, the rule in the step, and a policy that chooses ranks. Core owns the forward
 * pass, dropout, counting, budgets, files, changes of rank, and resuming.
 */
export function rankMethod<C extends RankConfig>(given: RankMethod<C>): CallableMethod<C> {
  const { defaults, options, complete, identityAtInit = true, budget, fromLora, file, ...rest } = given;
  const {
    start,
    ranks,
    divisor = (r: number) => r,
    unsaved,
    train,
    loss,
    update,
    policy,
    prunesTrained: _,
    ...method
  } = rest;
  const { name } = method;
  const entries = { ...rankEntries(defaults), ...options };
  const scalingAt = (site: Site, config: C, r = startingRank(site, config)): number =>
    (patternValue(config.alphaPattern, site.path) ?? config.loraAlpha) / divisor(r);
  const layerOf = (site: Site, config: C, initial: HostTensors, starts: readonly number[], r?: number): AdapterLayer =>
    rankLayer(site, {
      initial,
      scaling: scalingAt(site, config, r),
      dropout: config.loraDropout,
      train: train?.(config),
      loss: loss?.(config, { ranks: sumOf(starts, (count) => count) }),
      update: update && ((proposed, at) => update(proposed, at, config)),
    });
  const maker = (layers: AdapterLayers, config: C): RankMaker => ({
    name,
    newRanks: (path, count, rng) => start(tensorAt(layers, path).site, count, config, rng),
    withRanks(counts) {
      const starts = Object.values(layers).map(({ site }) => startingRank(site, config));
      const grown = Object.entries(layers).map(([path, layer], index): [string, AdapterLayer] => {
        const { site } = layer;
        const count = counts[index] ?? 0;
        // Only shapes matter for what is drawn here: the run's values replace it.
        if (budget !== 'moves' || count <= allocatedRanks(layer)) return [path, layer];
        return [path, layerOf(site, config, start(site, count, config, createRng(0)), starts)];
      });
      return withRankCounts(Object.fromEntries(grown), counts);
    },
  });
  return defineMethod<C>({
    parseConfig(input) {
      const parsed = parseOptions(name, entries, input) as RankConfig as C;
      return complete ? complete(parsed) : parsed;
    },
    fitBudget: fittedTo(given),
    scaledTo(config, scaling) {
      const { alpha: loraAlpha, alphaPattern } = alphasFor(config, (r) => scaling * divisor(r));
      return { ...config, loraAlpha, alphaPattern };
    },
    ...method,
    capabilities: { mergeable: true, identityAtInit, adaptsRank: policy !== undefined, kinds: ['linear'] },
    adapt(sites, config, init) {
      const counts = ranks?.(sites, config, init) ?? sites.map((site) => startingRank(site, config));
      const layers = sites.map((site, index) => {
        const r = counts[index] as number;
        const initial = start(site, r, config, init.rng.fork(site.path), init);
        return [site.path, layerOf(site, config, initial, counts, r)] as const;
      });
      return Object.fromEntries(layers);
    },
    ...(policy && {
      controller(layers, config, plan) {
        if (typeof config.budget === 'number') {
          if (budget === 'moves') assertStartFits(layers, config.budget);
          if (budget === 'prunes') assertPrunable(layers, config.budget, plan);
        }
        const own = policy(config, plan, layers);
        return own && rankController(layers, own, maker(layers, config), plan);
      },
      resumedLayers({ layers, config, values }) {
        const ranks = (path: string) => values[`${path}.gate`] ?? values[`${path}.loraA`]; // [r], or [in, r]
        const counts = Object.keys(layers).map((path) => ranks(path)?.shape.at(-1) ?? 0);
        return maker(layers, config).withRanks(counts);
      },
    }),
    ...rankFiles({ options, fromLora, unsaved, file }, scalingAt),
  });
}

/**
 * Returns `fitBudget`. 'stored' keeps the budget as an option: ranks that move fill it, ranks that are pruned start
 * above it. 'trained': A, B and the other trained tensors fill it at the start, and no rank has to go, unless
 * `prunesTrained`.
 */
function fittedTo<C extends RankConfig>({
  budget: kind,
  prunesTrained = false,
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
      const { cost: stored, ...ranks } = ranksForBudget(sites, budget, cost);
      return { ...config, ...ranks, budget: prunesTrained ? Math.round(stored / RANKS_PER_KEPT_RANK) : null };
    }
    assertOneRank(sites, budget);
    return { ...config, r: startingRankForBudget(sites, budget), rankPattern: {}, budget };
  };
}

const FACTORS = ['loraA', 'loraB'];
