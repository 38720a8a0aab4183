import type { AdapterLayers, Controller, TrainPlan } from '@peftjs/core';
import { budgetController } from './budget-controller.js';
import type { SoraConfig } from './config.js';
import { thresholdAt } from './rates.js';

/** Feeds the threshold of the proximal step: as configured, or as a budget demands. */
export function soraController(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan): Controller {
  return config.budget === null ? fixedController(config) : budgetController(layers, config, config.budget, plan);
}

function fixedController(config: SoraConfig): Controller {
  return {
    scalars: (_step, rates) => ({ threshold: thresholdAt(config, config.sparseLambda, rates) }),
    reads: () => [],
    afterStep: () => undefined,
    holdsBudget: () => true,
    snapshot: () => ({}),
    restore: () => undefined,
  };
}
