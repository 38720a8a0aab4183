import {
  ConfigError,
  grouped,
  mapTensor,
  tensorAt,
  type AdapterLayers,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import {
  bestFirst,
  firstWithinBudget,
  pruneStep,
  ranksByPath,
  RANKS_PER_KEPT_RANK,
  rankUnit,
  scoredRanks,
  startingRank,
  totalRanks,
  type RankPolicy,
  type ScoredRank,
} from '@peftjs/core/ranks';
import type { DynamicDoraConfig } from './config.js';

/*
 * The components of all modules compete. Pruning takes place between two shares of the run, at intervals of
 * `rankUpdateRatio` of it and at the end:
 *
 *   x  = (t - start) / (end - start)       the progress of pruning
 *   k  = max(1, floor((N - bT) x^3))       the number to prune: c_i = 0 for the k smallest S_i, ties by index
 *   bT = n rT                              the number of components left at the end; n modules
 *
 * The pruned share is a cubic that starts slowly, where AdaLoRA's starts fast. Until the end the optimizer may revive a
 * component, because its A_i and B_i are kept. At the end, pruned components are removed from the tensors and the
 * moments, which gives the outputs that zeros of their c_i would.
 */

/**
 * Returns Dynamic DoRA's policy. It sets the scalar `dem`: 1 until the last pruning, 0 after it.
 * @throws ConfigError when there is no step in which to choose ranks.
 */
export function dynamicDoraPolicy(config: DynamicDoraConfig, plan: TrainPlan, layers: AdapterLayers): RankPolicy {
  const { start, end, interval } = pruningSteps(config, plan);
  if (end < 1) {
    throw new ConfigError(
      `dynamic-dora: ranks are chosen before step ${end + 1} of ${plan.totalSteps}, which leaves no step to score them; train longer or raise endRatio`,
      'endRatio',
    );
  }
  const { budget } = config;
  const surplus = surplusOf(layers, config);
  const isDue = (step: number): boolean =>
    step === end || (step >= start && step < end && (step - start) % interval === 0);
  return {
    cuts: [end],
    scalars: (step) => ({ dem: step > end ? 0 : 1 }),
    reads: (step) => (isDue(step) ? ['importance', 'gate'] : []),
    decide({ step, values, of, cost }) {
      const scores = of('importance');
      const components = bestFirst(scoredRanks(scores, cost));
      if (step === end) {
        const kept =
          budget === null ? components.slice(0, components.length - surplus) : firstWithinBudget(components, budget);
        return { kept: ranksByPath(Object.keys(scores), kept) };
      }
      const count = prunedCount(surplus, (step - start) / (end - start));
      return { values: withoutGates(values, components.slice(components.length - count)) };
    },
  };
}

/** Returns the first and the last step after which components are pruned, and the steps between two prunings. */
function pruningSteps(
  { startRatio, endRatio, rankUpdateRatio }: DynamicDoraConfig,
  plan: TrainPlan,
): { start: number; end: number; interval: number } {
  const first = Math.ceil(startRatio * plan.totalSteps);
  const end = Math.min(first + Math.floor((endRatio - startRatio) * plan.totalSteps), pruneStep(plan));
  const start = Math.min(end, Math.max(1, first, plan.warmupSteps));
  return { start, end, interval: Math.max(1, Math.round(rankUpdateRatio * plan.totalSteps)) };
}

/** Returns N - bT, rounded down to whole components. */
function surplusOf(layers: AdapterLayers, config: DynamicDoraConfig): number {
  return Math.max(0, totalRanks(layers) - Math.max(1, Math.ceil(targetRanks(layers, config) - ROUNDING)));
}

/** Returns bT, the number of components left at the end. It does not change as components are pruned. */
export function targetRanks(layers: AdapterLayers, config: DynamicDoraConfig): number {
  const sites = Object.values(layers).map(({ site }) => site);
  if (config.budget !== null) return (config.budget / rankUnit(sites)) * sites.length;
  if (config.targetR !== null) return config.targetR * sites.length;
  return sites.reduce((sum, site) => sum + startingRank(site, config), 0) / RANKS_PER_KEPT_RANK;
}

/** The rounding error to ignore in a number of components. */
const ROUNDING = 1e-9;

/** Returns k, the number of components to prune at `progress`, from 0 to 1. */
function prunedCount(surplus: number, progress: number): number {
  return Math.min(surplus, Math.max(1, Math.floor(surplus * progress ** 3)));
}

/** Returns new gates of the modules that lose some. */
function withoutGates(values: HostTensors, pruned: readonly ScoredRank[]): HostTensors {
  const lost = [...grouped(pruned, ({ path }) => `${path}.gate`)].map(([key, ranks]) => {
    const isLost = (at: number): boolean => ranks.some(({ rank }) => rank === at);
    return [key, mapTensor(tensorAt(values, key), (value, rank) => (isLost(rank) ? 0 : value))] as const;
  });
  return Object.fromEntries(lost);
}
