import {
  assertCuttable,
  cutStep,
  missedCut,
  rankedPaths,
  truncated,
  type AdapterLayers,
  type Controller,
  type ControllerChanges,
  type TrainPlan,
} from '@peftjs/core';

/**
 * Cuts the layers to a budget once, after the last step before the final phase.
 * @throws ConfigError when the budget is out of reach or there is no step to train in before.
 */
export function truncationController(layers: AdapterLayers, budget: number, plan: TrainPlan): Controller {
  assertCuttable(layers, budget, plan);
  const due = cutStep(plan);
  const memory = { cut: false };
  return {
    scalars(step) {
      if (step > due && !memory.cut) throw missedCut('the adapter was not cut to its budget', step, due);
      return {};
    },
    reads: (step) => (step === due ? rankedPaths(layers).flatMap((path) => [`${path}.loraA`, `${path}.loraB`]) : []),
    afterStep(_step, values): ControllerChanges {
      memory.cut = true;
      return { resized: truncated(layers, values, budget) };
    },
    holdsBudget: (step) => memory.cut && step >= due,
    snapshot: () => ({ ...memory }),
    restore: (state) => void Object.assign(memory, state),
  };
}
