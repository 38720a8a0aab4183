import {
  ConfigError,
  rankCost,
  TrainingError,
  type AdapterLayers,
  type Controller,
  type TrainPlan,
} from '@peftjs/core';
import { compaction } from './compaction.js';
import type { AdaloraConfig } from './config.js';
import { rankBudget, type RankSchedule } from './schedule.js';
import { FILLED, selectionReads, selectRanks } from './selection.js';

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
