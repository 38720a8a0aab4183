import { hostTensor } from '@peftjs/core';
import {
  ConfigError,
  floats,
  keepRanks,
  nonZeros,
  rankCost,
  rankedPaths,
  selectWithinBudget,
  tensorAt,
  TrainingError,
  withRankCounts,
  type AdapterContents,
  type AdapterLayers,
  type BudgetItem,
  type Controller,
  type ControllerChanges,
  type HostTensor,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import type { AdaloraConfig } from './config.js';

/**
 * Masks the triplets that matter least, every `deltaT` steps between `tinit` and `totalSteps - tfinal`, and for good at the
 * end of that; what that one leaves out may then leave the tensors. It feeds two scalars: `scoring`, 1 while scores are taken,
 * and `frozen`, 1 once the last mask stands.
 * @throws ConfigError when the phases or the budget do not fit.
 */
export function adaloraController(layers: AdapterLayers, config: AdaloraConfig, plan: TrainPlan): Controller {
  const schedule = rankSchedule(layers, config, plan);
  const last = lastAllocation(schedule);
  const lastScored = config.allocator === 'paper' ? last : last - 1;
  const memory = { allocatedAt: 0 };
  return {
    scalars(step) {
      const due = lastDue(step - 1, schedule, config.deltaT);
      if (memory.allocatedAt < due) throw missedAllocation(step, due);
      return { scoring: step > lastScored ? 0 : 1, frozen: step > last ? 1 : 0 };
    },
    reads(step) {
      const due = step <= last && lastDue(step, schedule, config.deltaT) === step;
      return due ? selectionReads(layers, config) : [];
    },
    afterStep(step, values) {
      memory.allocatedAt = step;
      const forGood = step === last;
      const selected = selectRanks(layers, values, rankBudget(step, schedule), config, forGood);
      return { values: selected, ...(config.compact && forGood && compaction(layers, selected)) };
    },
    holdsBudget: (step) => step >= last && memory.allocatedAt === last,
    snapshot: () => ({ ...memory }),
    restore: (state) => void Object.assign(memory, state),
  };
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
      `adalora: totalStep ${totalSteps} and tfinal ${tfinal} put the final mask after step ${last}, and the run has ${plan.totalSteps}; train longer, or set totalStep, tinit and tfinal to null`,
      'totalStep',
    );
  }
  return schedule;
}

/** The run's own phases, or PEFT's: counted from a `totalStep` of their own, and 0 unless given. */
function phases(
  { totalStep, tinit, tfinal }: AdaloraConfig,
  { totalSteps, warmupSteps, finalSteps }: TrainPlan,
): Pick<RankSchedule, 'totalSteps' | 'tinit' | 'tfinal'> {
  if (totalStep !== null) return { totalSteps: totalStep, tinit: tinit ?? 0, tfinal: tfinal ?? 0 };
  return { totalSteps, tinit: tinit ?? warmupSteps, tfinal: tfinal ?? finalSteps };
}

/** Budgets in the unit that the configuration counts in. */
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
      `adalora: budget is ${targetBudget}; these modules store from ${Math.min(...costs)} (one rank) to ${initialBudget} (initR)`,
      'budget',
    );
  }
  return { initialBudget, targetBudget: Math.min(targetBudget, initialBudget) };
}

/** T - t_f, the step after which the final mask is set. */
function lastAllocation({ totalSteps, tfinal }: RankSchedule): number {
  return totalSteps - tfinal;
}

/** The latest step up to `step` after which triplets are chosen; 0 for none. */
function lastDue(step: number, schedule: RankSchedule, deltaT: number): number {
  const last = lastAllocation(schedule);
  if (step >= last) return last;
  const due = step - (step % deltaT);
  return due > schedule.tinit ? due : 0;
}

function missedAllocation(step: number, due: number): TrainingError {
  return new TrainingError(
    `AdaLoRA's ranks were not allocated: step ${step} begins, and 'afterStep' was not called after step ${due}; without it this is LoRA of a fixed rank`,
    String(step),
  );
}

/** The course of AdaLoRA's budget. */
export interface RankSchedule {
  /** b0, held until `tinit`. */
  readonly initialBudget: number;
  /** bT, held from `totalSteps - tfinal` on. */
  readonly targetBudget: number;
  readonly tinit: number;
  readonly tfinal: number;
  readonly totalSteps: number;
}

/**
 * b(t) of AdaLoRA's eq. 14, a cubic fall from b0 at t_i to bT at T - t_f:
 * b(t) = bT + (b0 - bT) (1 - (t - t_i) / (T - t_i - t_f))^3. The numerator printed in the paper, t - t_i - t_f, would start
 * above b0. Not rounded: a controller keeps the whole part.
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

/** The share of a budget in parameters that the final mask has to fill, where any can. */
const FILLED = 0.99;

/** A rank that may stay: its importance and what it stores. */
interface Candidate extends BudgetItem {
  readonly path: string;
  readonly rank: number;
}

/** The tensors that a selection reads, by `<path>.<name>`. */
function selectionReads(layers: AdapterLayers, { parametrization }: AdaloraConfig): string[] {
  const acted = parametrization === 'svd' ? 'loraE' : 'mask';
  return rankedPaths(layers).flatMap((path) => [`${path}.importance`, `${path}.${acted}`]);
}

/**
 * Masks [r] that keep the most important ranks of all modules within a budget, and E without the others (eq. 8).
 * `forGood`: this is the final mask.
 */
function selectRanks(
  layers: AdapterLayers,
  values: HostTensors,
  budget: number,
  config: AdaloraConfig,
  forGood: boolean,
): HostTensors {
  const considered = candidates(layers, values, config);
  const stays = selected(considered, budget, config, forGood);
  const kept = considered.filter((_, index) => stays[index]);
  const changes: HostTensors = {};
  for (const path of rankedPaths(layers)) {
    const r = tensorAt(values, `${path}.importance`).data.length;
    const ranks = kept.flatMap((each) => (each.path === path ? [each.rank] : []));
    const mask = maskOf(ranks, r);
    changes[`${path}.mask`] = mask;
    if (config.parametrization === 'lora') continue;
    const loraE = floats(tensorAt(values, `${path}.loraE`));
    changes[`${path}.loraE`] = hostTensor(
      loraE.map((value, rank) => (mask.data[rank] ? value : 0)),
      [r],
    );
  }
  return changes;
}

/** A mask [r] that keeps these ranks. */
export function maskOf(ranks: readonly number[], r: number): HostTensor {
  const mask = new Float32Array(r);
  for (const rank of ranks) mask[rank] = 1;
  return hostTensor(mask, [r]);
}

/** Every triplet, for a masked one may come back; of the doublets only those that are left. Layer after layer. */
function candidates(layers: AdapterLayers, values: HostTensors, { parametrization }: AdaloraConfig): Candidate[] {
  return rankedPaths(layers).flatMap((path) => {
    const cost = rankCost(tensorAt(layers, path).site);
    const importance = floats(tensorAt(values, `${path}.importance`));
    const ranks = parametrization === 'svd' ? [...importance.keys()] : nonZeros(tensorAt(values, `${path}.mask`));
    return ranks.map((rank) => ({ path, rank, value: importance[rank] as number, cost }));
  });
}

function selected(
  items: readonly BudgetItem[],
  budget: number,
  { budgetUnit, allocator }: AdaloraConfig,
  forGood: boolean,
): boolean[] {
  if (budgetUnit === 'parameters') {
    return selectWithinBudget(items, budget, forGood ? { atLeast: FILLED * budget } : {});
  }
  const choose = allocator === 'paper' ? greatest : aboveThreshold;
  return choose(
    items.map(({ value }) => value),
    Math.floor(budget),
  );
}

/** The `count` greatest values, ties by index: never more, never fewer. */
function greatest(values: readonly number[], count: number): boolean[] {
  const order = values.map((_, index) => index).sort((a, b) => (values[b] as number) - (values[a] as number) || a - b);
  const kept = new Set(order.slice(0, count));
  return values.map((_, index) => kept.has(index));
}

/** The values above the greatest one that has to go when `count` stay: what equals it goes too. */
function aboveThreshold(values: readonly number[], count: number): boolean[] {
  const threshold = [...values].sort((a, b) => b - a)[count] ?? -Infinity;
  return values.map((value) => value > threshold);
}

/*
 * Compaction: what the final mask leaves out is zero for good, so it may leave the tensors, the scores and the moments. Outputs
 * stay as they are, for a masked triplet adds nothing to them, and the scaling stays that of initR. The steps that follow are
 * those of the whole tensors but for two things, in which masked triplets still have a say while they are there:
 *
 *   the clip norm              E_i has a gradient though it is masked, and the orthogonality term gives A_i and B_i one
 *   the orthogonality term     it turns live triplets away from masked ones, too: 4 (A_j^T A_i) A_i is part of its gradient at A_j
 *
 * A masked doublet has no gradient at all.
 */

/**
 * Takes out of the layers what the final mask leaves out. Where it leaves out everything there would be nothing to train, and
 * nothing changes.
 * @param masks `<path>.mask` [r] of every layer that has ranks
 */
function compaction(layers: AdapterLayers, masks: HostTensors): Pick<ControllerChanges, 'resized'> {
  const kept = rankedPaths(layers).map((path) => [path, nonZeros(tensorAt(masks, `${path}.mask`))] as const);
  const resized = keepRanks(layers, Object.fromEntries(kept));
  const nothingLeft = kept.every(([, ranks]) => ranks.length === 0);
  return nothingLeft || Object.keys(resized).length === 0 ? {} : { resized };
}

/** The layers that values of a later step, or of a file, fit. @throws CheckpointError when they have ranks that a layer does not. */
export function resumedLayers({ config, layers, values }: AdapterContents<AdaloraConfig>): AdapterLayers {
  if (!config.compact) return layers;
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.mask`]?.data.length ?? 0),
  );
}
