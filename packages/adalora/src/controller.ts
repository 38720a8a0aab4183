import {
  ConfigError,
  floats,
  hostTensor,
  rankCost,
  selectWithinBudget,
  tensorAt,
  TrainingError,
  type AdapterLayers,
  type BudgetItem,
  type Controller,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core';
import type { AdaloraConfig } from './config.js';
import { rankBudget, type RankSchedule } from './schedule.js';

/** The share of a budget in parameters that the final mask has to fill, where any can. */
const FILLED = 0.99;

/**
 * Masks the triplets that matter least, every `deltaT` steps between `tinit` and `totalSteps - tfinal`, and for good at the
 * end of that.
 * @throws ConfigError when the phases or the budget do not fit.
 */
export function adaloraController(layers: AdapterLayers, config: AdaloraConfig, plan: TrainPlan): Controller {
  const schedule = rankSchedule(layers, config, plan);
  const last = schedule.totalSteps - schedule.tfinal;
  const paths = Object.keys(layers);
  const memory = { allocatedAt: 0 };
  return {
    scalars(step) {
      const due = lastDue(step - 1, schedule, config.deltaT);
      if (memory.allocatedAt < due) throw missedAllocation(step, due);
      return { frozen: step > last ? 1 : 0 };
    },
    reads(step) {
      const due = step <= last && lastDue(step, schedule, config.deltaT) === step;
      return due ? paths.flatMap((path) => [`${path}.importance`, `${path}.loraE`]) : [];
    },
    afterStep(step, values) {
      memory.allocatedAt = step;
      const selected = select(triplets(layers, values), rankBudget(step, schedule), config, step === last);
      return { values: applied(paths, values, selected) };
    },
    holdsBudget: (step) => step >= last && memory.allocatedAt === last,
    snapshot: () => ({ ...memory }),
    restore: (state) => void Object.assign(memory, state),
  };
}

function rankSchedule(layers: AdapterLayers, config: AdaloraConfig, plan: TrainPlan): RankSchedule {
  const { totalSteps } = plan;
  const tinit = config.tinit ?? plan.warmupSteps;
  const tfinal = config.tfinal ?? plan.finalSteps;
  if (totalSteps - tfinal < 1 || tinit >= totalSteps - tfinal) {
    throw new ConfigError(
      `adalora: tinit ${tinit} and tfinal ${tfinal} leave no step of ${totalSteps} to choose ranks in; train longer or lower them`,
      'tinit',
    );
  }
  return { ...budgets(layers, config), tinit, tfinal, totalSteps };
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

/** The latest step up to `step` after which triplets are chosen; 0 for none. */
function lastDue(step: number, { tinit, tfinal, totalSteps }: RankSchedule, deltaT: number): number {
  const last = totalSteps - tfinal;
  if (step >= last) return last;
  const due = step - (step % deltaT);
  return due > tinit ? due : 0;
}

/** Importance and cost of every triplet, layer after layer. */
function triplets(layers: AdapterLayers, values: HostTensors): BudgetItem[] {
  return Object.entries(layers).flatMap(([path, { site }]) =>
    [...floats(tensorAt(values, `${path}.importance`))].map((value) => ({ value, cost: rankCost(site) })),
  );
}

/** Which triplets stay: the most important ones in number, or as far as what they store goes. */
function select(
  items: readonly BudgetItem[],
  budget: number,
  { budgetUnit }: AdaloraConfig,
  forGood: boolean,
): boolean[] {
  if (budgetUnit === 'triplets')
    return topCount(
      items.map(({ value }) => value),
      Math.floor(budget),
    );
  return selectWithinBudget(items, budget, forGood ? { atLeast: FILLED * budget } : {});
}

/** The `count` greatest values, ties by index: never more, never fewer. */
function topCount(values: readonly number[], count: number): boolean[] {
  const order = values.map((_, index) => index).sort((a, b) => (values[b] as number) - (values[a] as number) || a - b);
  const kept = new Set(order.slice(0, count));
  return values.map((_, index) => kept.has(index));
}

/** The masks [r], and E with the others' entries at zero. */
function applied(paths: readonly string[], values: HostTensors, selected: readonly boolean[]): HostTensors {
  const changes: HostTensors = {};
  let first = 0;
  for (const path of paths) {
    const loraE = tensorAt(values, `${path}.loraE`);
    const r = loraE.data.length;
    const mask = selected.slice(first, (first += r));
    changes[`${path}.mask`] = hostTensor(Float32Array.from(mask, Number), [r]);
    changes[`${path}.loraE`] = hostTensor(
      floats(loraE).map((value, rank) => (mask[rank] ? value : 0)),
      [r],
    );
  }
  return changes;
}

function missedAllocation(step: number, due: number): TrainingError {
  return new TrainingError(
    `AdaLoRA's ranks were not allocated: step ${step} begins, and 'afterStep' was not called after step ${due}; without it this is LoRA of a fixed rank`,
    String(step),
  );
}
