import { hostTensor } from '@peftjs/core';
import {
  ConfigError,
  mapTensor,
  mapValues,
  tensorAt,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type HostTensor,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import {
  bestFirst,
  rankCost,
  rankController,
  rankCostIn,
  rankedPaths,
  ranksByPath,
  ranksThatFill,
  rankValues,
  scoredRanks,
  selectWithinBudget,
  withRankCounts,
  type RankDecision,
  type RankPolicy,
  type ScoredRank,
} from '@peftjs/core/ranks';
import type { AdaloraConfig } from './config.js';

/**
 * Masks the least important triplets every `deltaT` steps between `tinit` and `totalSteps - tfinal`. The last mask is
 * final; the ranks that it drops may then be removed from the tensors. Two scalars go to the step: `scoring`, 1 while
 * scores are updated, and `frozen`, 1 once the final mask is set.
 * @throws ConfigError when the phases or the budget do not fit.
 */
export function adaloraController(layers: AdapterLayers, config: AdaloraConfig, plan: TrainPlan): Controller {
  const schedule = rankSchedule(layers, config, plan);
  const last = lastAllocation(schedule);
  const lastScored = config.allocator === 'paper' ? last : last - 1;
  const isDue = (step: number): boolean =>
    step === last || (step > schedule.tinit && step < last && step % config.deltaT === 0);
  const policy: RankPolicy = {
    cuts: Array.from({ length: last }, (_, index) => index + 1).filter(isDue),
    scalars: (step) => ({ scoring: step > lastScored ? 0 : 1, frozen: step > last ? 1 : 0 }),
    reads: (step) => (isDue(step) ? ['importance', config.parametrization === 'svd' ? 'loraE' : 'mask'] : []),
    decide({ step, layers: now, values }) {
      const forGood = step === last;
      const masks = selectRanks(now, values, rankBudget(step, schedule), config, forGood);
      return { values: masks, ...(config.compact && forGood && compaction(now, masks)) };
    },
  };
  const withRanks = (counts: readonly number[]): AdapterLayers => withRankCounts(layers, counts);
  return rankController(layers, policy, { name: 'adalora', newRanks: () => ({}), withRanks }, plan);
}

function rankSchedule(layers: AdapterLayers, config: AdaloraConfig, plan: TrainPlan): RankSchedule {
  const schedule = { ...budgets(layers, config), ...phases(config, plan) };
  const { totalSteps, tinit, tfinal } = schedule;
  const last = lastAllocation(schedule);
  if (last < 1 || tinit >= last) {
    throw new ConfigError(
      `adalora: tinit ${tinit} and tfinal ${tfinal} leave no step of ${totalSteps} to choose ranks in; train longer or lower them`,
      'tinit',
    );
  }
  if (last > plan.totalSteps) {
    throw new ConfigError(
      `adalora: totalStep ${totalSteps} and tfinal ${tfinal} put the final mask after step ${last}, but the run has ${plan.totalSteps}; train longer, or set totalStep, tinit and tfinal to null`,
      'totalStep',
    );
  }
  return schedule;
}

/** Returns the run's phases, or with `totalStep` the given ones as in PEFT: counted from it, and 0 by default. */
function phases(
  { totalStep, tinit, tfinal }: AdaloraConfig,
  { totalSteps, warmupSteps, finalSteps }: TrainPlan,
): Pick<RankSchedule, 'totalSteps' | 'tinit' | 'tfinal'> {
  if (totalStep !== null) return { totalSteps: totalStep, tinit: tinit ?? 0, tfinal: tfinal ?? 0 };
  return { totalSteps, tinit: tinit ?? warmupSteps, tfinal: tfinal ?? finalSteps };
}

/** Returns b0 and bT in the configured unit. */
function budgets(
  layers: AdapterLayers,
  { initR, targetR, budgetUnit, budget }: AdaloraConfig,
): Pick<RankSchedule, 'initialBudget' | 'targetBudget'> {
  const costs = Object.values(layers).map(({ site }) => (budgetUnit === 'triplets' ? 1 : rankCost(site)));
  const unit = costs.reduce((sum, cost) => sum + cost, 0);
  const initialBudget = initR * unit;
  const targetBudget = budget ?? targetR * unit;
  if (targetBudget < Math.min(...costs) || targetBudget * FILLED > initialBudget) {
    throw new ConfigError(
      `adalora: budget is ${targetBudget}; expected ${Math.min(...costs)} (one rank) to ${initialBudget} (initR)`,
      'budget',
    );
  }
  return { initialBudget, targetBudget: Math.min(targetBudget, initialBudget) };
}

/** Returns T - t_f, the step after which the final mask is set. */
function lastAllocation({ totalSteps, tfinal }: RankSchedule): number {
  return totalSteps - tfinal;
}

/** The schedule of AdaLoRA's budget. Budgets count triplets or parameters (`budgetUnit`). */
export interface RankSchedule {
  /** b0, the budget until `tinit`. */
  readonly initialBudget: number;
  /** bT, the budget from `totalSteps - tfinal` on. */
  readonly targetBudget: number;
  /** t_i, the number of steps before the budget starts to fall. */
  readonly tinit: number;
  /** t_f, the number of steps after the final mask. */
  readonly tfinal: number;
  /** T, the total number of steps. */
  readonly totalSteps: number;
}

/**
 * Returns b(t), AdaLoRA's eq. 14: a cubic decay from b0 at t_i to bT at T - t_f,
 * b(t) = bT + (b0 - bT) (1 - (t - t_i) / (T - t_i - t_f))^3.
 * The numerator that the paper prints, t - t_i - t_f, would start above b0. The result is not rounded; the controller
 * keeps floor(b(t)) triplets.
 */
export function rankBudget(
  step: number,
  { initialBudget, targetBudget, tinit, tfinal, totalSteps }: RankSchedule,
): number {
  if (step <= tinit) return initialBudget;
  if (step >= totalSteps - tfinal) return targetBudget;
  const left = 1 - (step - tinit) / (totalSteps - tinit - tfinal);
  return targetBudget + (initialBudget - targetBudget) * left ** 3;
}

/** The share of a budget in parameters that the final mask has to fill, if possible. */
const FILLED = 0.99;

/**
 * Returns masks [r] that keep the most important ranks of all modules within a budget, and E with the others zeroed
 * (eq. 8).
 * @param forGood whether this is the final mask
 */
function selectRanks(
  layers: AdapterLayers,
  values: HostTensors,
  budget: number,
  config: AdaloraConfig,
  forGood: boolean,
): HostTensors {
  const chosen = selected(candidates(layers, values, config), budget, config, forGood);
  const paths = rankedPaths(layers);
  const kept = ranksByPath(paths, chosen);
  const changes: HostTensors = {};
  for (const path of paths) {
    const r = tensorAt(values, `${path}.importance`).data.length;
    const mask = maskOf(tensorAt(kept, path), r);
    changes[`${path}.mask`] = mask;
    if (config.parametrization === 'lora') continue;
    const loraE = tensorAt(values, `${path}.loraE`);
    changes[`${path}.loraE`] = mapTensor(loraE, (value, rank) => (mask.data[rank] ? value : 0));
  }
  return changes;
}

/** Returns a mask [r] that keeps these ranks. */
export function maskOf(ranks: readonly number[], r: number): HostTensor {
  const mask = new Float32Array(r);
  for (const rank of ranks) mask[rank] = 1;
  return hostTensor(mask, [r]);
}

/** Returns the ranks to choose from: all triplets, since masked ones may come back, but only live doublets. */
function candidates(layers: AdapterLayers, values: HostTensors, { parametrization }: AdaloraConfig): ScoredRank[] {
  const all = scoredRanks(rankValues(layers, values, 'importance'), rankCostIn(layers));
  if (parametrization === 'svd') return all;
  const masks = rankValues(layers, values, 'mask');
  return all.filter(({ path, rank }) => masks[path]?.[rank] !== 0);
}

function selected(
  ranks: readonly ScoredRank[],
  budget: number,
  { budgetUnit, allocator }: AdaloraConfig,
  forGood: boolean,
): ScoredRank[] {
  if (budgetUnit === 'parameters') {
    return forGood ? ranksThatFill(ranks, budget) : selectWithinBudget(ranks, budget);
  }
  const best = bestFirst(ranks); // the lower index wins a tie
  const count = Math.floor(budget);
  if (allocator === 'paper') return best.slice(0, count);
  const threshold = best[count]?.value ?? -Infinity;
  return ranks.filter(({ value }) => value > threshold); // ranks that tie with the greatest dropped one are dropped too
}

/*
 * Compaction: ranks that the final mask drops are zero for good, so they can be removed from the tensors, the scores
 * and the moments. The outputs do not change, because a masked triplet adds nothing to them; the scaling stays that of
 * initR. Later steps differ from those of the full tensors in two ways, because masked triplets still contribute to
 *
 *   the clip norm              E_i has a gradient even if masked, and the orthogonality term gives A_i and B_i one;
 *   the orthogonality term     it pushes live triplets away from masked ones too: its gradient at A_j contains
 *                              4 (A_j^T A_i) A_i.
 *
 * A masked doublet has no gradient at all.
 */

/**
 * Removes the ranks that the final mask drops. Does nothing if it drops all ranks, because nothing would be left to
 * train.
 * @param masks `<path>.mask` [r] of every layer that has ranks
 */
function compaction(layers: AdapterLayers, masks: HostTensors): RankDecision {
  const kept = mapValues(rankValues(layers, masks, 'mask'), (mask) =>
    [...mask.keys()].filter((rank) => mask[rank] !== 0),
  );
  return Object.values(kept).every((ranks) => ranks.length === 0) ? {} : { kept };
}

/**
 * Resizes layers to the values of a later step or a file.
 * @throws CheckpointError when the values have more ranks than a layer.
 */
export function resumedLayers({ config, layers, values }: AdapterContents<AdaloraConfig>): AdapterLayers {
  if (!config.compact) return layers;
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.mask`]?.data.length ?? 0),
  );
}
