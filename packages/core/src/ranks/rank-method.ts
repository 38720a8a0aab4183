import * as v from 'valibot';
import { defineMethod } from '../adapter/attach.js';
import {
  assertOneRank,
  ranksForBudget,
  rankCost,
  startingRank,
  startingRankForBudget,
  startingScaling,
  withRanksForBudget,
} from '../adapter/budget.js';
import { allocatedRanks, withRankCounts } from '../adapter/ranks.js';
import { targetEntries } from '../adapter/targets.js';
import { integerFrom, positive } from '../config.js';
import type { TrainPlan } from '../contracts/controller.js';
import type { AdapterLayer, AdapterLayers, ParamSpec, UpdateContext } from '../contracts/layer.js';
import type { AdapterContents, CallableMethod, PeftMethod, TargetConfig } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { rankFiles } from '../files/lora-ranks.js';
import { createRng, type Rng } from '../rng.js';
import { tensorAt, type HostTensors, type Tensors } from '../tensors.js';
import { rankLayer } from './rank-layer.js';
import { rankController, type RankMaker, type RankPolicy } from './rank-policy.js';

/** The options that methods of low rank share. */
export interface RankConfig extends TargetConfig {
  /** The rank that every module starts with. */
  readonly r: number;
  /** The alpha parameter: the change is scaled by `loraAlpha / r`, with the initial r. */
  readonly loraAlpha: number;
  /** Initial ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules whose alpha is not `loraAlpha`, by the same keys. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** The dropout probability of each module's input, applied before A during training. Default 0. */
  readonly loraDropout?: number;
  /** The number of parameters stored at the end. Default null: no budget. */
  readonly budget?: number | string | null;
}

/** Schema entries for the options of `RankConfig` but dropout and budget. @param defaults those of the method */
export const rankEntries = (defaults: Pick<RankConfig, 'r' | 'loraAlpha'>) => ({
  ...targetEntries,
  r: v.optional(integerFrom(1), defaults.r),
  loraAlpha: v.optional(positive, defaults.loraAlpha),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
});

/** What a method of low rank defines; core owns the rest. */
export interface RankMethod<C extends RankConfig>
  extends
    Pick<PeftMethod<C>, 'name' | 'parseConfig'>,
    Partial<Pick<PeftMethod<C>, 'defaultLearningRate' | 'shortRunOptions' | 'atSparsity' | 'sizing' | 'fitBudget'>> {
  /** Whether the untrained adapter leaves the outputs unchanged. Default true. */
  readonly identityAtInit?: boolean;
  /**
   * What a budget of stored parameters does. `'moves'`: ranks start within it, and a module may get more than it starts
   * with. `'prunes'`: modules start with more ranks than they keep. Default: ranks fill it from the start, and stay.
   */
  readonly budget?: 'moves' | 'prunes';
  /**
   * The format of an adapter to be trained further: its `peft_type`, and the suffix of a module's gate. A pruned adapter,
   * and every adapter of a method without gates, is PEFT's LORA.
   */
  readonly file?: {
    readonly peftType: string;
    readonly gate: string;
    /** Returns the configuration to write, where a file needs another one. */
    config?(adapter: AdapterContents<C>): C;
  };
  /**
   * Returns the tensors of `count` ranks of a module: `loraA` [in, count], `loraB` [count, out], and any others [count].
   * With `gate`, ranks have gates. Also called for ranks that a module gets later.
   */
  start(site: Site, count: number, config: C, rng: Rng): HostTensors;
  /** Returns the tensors that no file holds, for ranks with these others. Default: none. */
  unsaved?(ranks: HostTensors): HostTensors;
  /** How tensors are trained, by name; those left out are state. Default: A and B as usual. */
  train?(config: C): Readonly<Record<string, Partial<ParamSpec>>>;
  /** Returns a term of the loss for each module; undefined where this configuration has none. */
  loss?(config: C, adapter: { readonly ranks: number }): NonNullable<AdapterLayer['loss']> | undefined;
  /** Applies a rule after the optimizer, e.g. a proximal operator, as `AdapterLayer.update`. */
  update?(proposed: Tensors, at: UpdateContext, config: C): Tensors;
  /** Returns what decides between steps which ranks stay; undefined where nothing does. @throws ConfigError */
  policy?(layers: AdapterLayers, config: C, plan: TrainPlan): RankPolicy | undefined;
}

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
  const { start, train, loss, update, policy, identityAtInit = true, budget, ...method } = given;
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
    name: given.name,
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
        const own = policy(layers, config, plan);
        return own && rankController(layers, own, maker(layers, config), plan);
      },
      resumedLayers({ layers, config, values }) {
        const counts = Object.keys(layers).map((path) => values[`${path}.loraA`]?.shape[1] ?? 0);
        return maker(layers, config).withRanks(counts);
      },
    }),
    ...rankFiles(given, Object.keys(rankEntries({ r: 1, loraAlpha: 1 }))),
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
