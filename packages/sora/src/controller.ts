import {
  allocatedRanks,
  rankedPaths,
  withRankCounts,
  withResized,
  type AdapterLayers,
  type Controller,
  type TrainPlan,
} from '@peftjs/core';
import { budgetController } from './budget-controller.js';
import { compaction } from './compaction.js';
import type { SoraConfig } from './config.js';
import { gateNames } from './gates.js';
import { thresholdAt } from './rates.js';

/** Feeds the threshold of the proximal step: as configured, or as a budget demands. Removes dead ranks if told to. */
export function soraController(layers: AdapterLayers, config: SoraConfig, plan: TrainPlan): Controller {
  return config.budget === null
    ? fixedController(layers, config, plan)
    : budgetController(layers, config, config.budget, plan);
}

function fixedController(layers: AdapterLayers, config: SoraConfig, { warmupSteps }: TrainPlan): Controller {
  const { compactEvery, sparseLambda } = config;
  const gated = rankedPaths(layers).length > 0; // without gates there is no group of them, and no learning rate
  let held = layers;
  return {
    scalars: (_step, rates) => ({ threshold: gated ? thresholdAt(config, sparseLambda, rates) : 0 }),
    reads: (step) => (compactEvery !== null && step > warmupSteps && step % compactEvery === 0 ? gateNames(held) : []),
    afterStep(_step, gates) {
      const changes = compaction(held, gates);
      held = withResized(held, changes.resized);
      return changes;
    },
    holdsBudget: () => true,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks) }),
    restore({ ranks }) {
      if (Array.isArray(ranks)) held = withRankCounts(layers, ranks as readonly number[]);
    },
  };
}
