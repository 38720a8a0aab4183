import { ConfigError, TrainingError } from '../errors.js';
import type { AdapterLayers, TrainPlan } from '../contracts/method.js';
import { tensorAt } from '../tensors.js';
import { rankCost, selectWithinBudget } from './budget.js';
import { heldRanks, rankedPaths } from './compaction.js';

/*
 * A budget that is met in the middle of a run: what low-rank layers hold is cut down to it once, before the final phase. Which
 * ranks stay is a knapsack over all modules, of what each rank is worth against in + out, what it stores.
 */

/** The share of a budget that the ranks kept have to fill, where any can. */
const FILLED = 0.99;

/** How much more than everything may be asked for, as a share of it. */
const TOLERANCE = 0.01;

/** A number for every rank, by module path. */
export type OfRanks = Readonly<Record<string, ArrayLike<number>>>;

/**
 * The ranks of all layers that are worth most together within a budget, at least 99 % of it where any can fill that.
 * @param worth of every rank, at least zero
 * @returns by path the indices of the ranks kept, ascending
 */
export function selectRanks(layers: AdapterLayers, worth: OfRanks, budget: number): Record<string, number[]> {
  const offered = Object.entries(worth).flatMap(([path, values]) => {
    const cost = rankCost(tensorAt(layers, path).site);
    return Array.from(values, (value, rank) => ({ path, rank, value, cost }));
  });
  const selected = selectWithinBudget(offered, budget, { atLeast: FILLED * budget });
  const kept = Object.fromEntries(Object.keys(worth).map((path) => [path, [] as number[]]));
  offered.forEach(({ path, rank }, index) => {
    if (selected[index]) kept[path]?.push(rank);
  });
  return kept;
}

/** What the ranks of all layers store when every one of them is alive. */
export function heldCost(layers: AdapterLayers): number {
  return Object.values(layers).reduce((sum, layer) => sum + heldRanks(layer) * rankCost(layer.site), 0);
}

/** The step after which a run with a budget cuts its ranks: the last one before the final phase. */
export function cutStep({ totalSteps, finalSteps }: TrainPlan): number {
  return totalSteps - finalSteps;
}

/**
 * That the ranks were not cut when they had to be: the loop that takes the steps did not call the controller.
 * @param what the beginning of the sentence: what has not happened
 */
export function missedCut(what: string, step: number, due: number): TrainingError {
  return new TrainingError(
    `${what}: step ${step} begins, and 'afterStep' was never called after step ${due}`,
    String(step),
  );
}

/**
 * That layers can be cut to a budget in a run.
 * @throws ConfigError when there are more parameters asked for than they hold, fewer than one rank stores, or no step before
 * the final phase.
 */
export function assertCuttable(layers: AdapterLayers, budget: number, plan: TrainPlan): void {
  const held = heldCost(layers);
  const least = Math.min(...rankedPaths(layers).map((path) => rankCost(tensorAt(layers, path).site)));
  if (budget < least || budget * (1 - TOLERANCE) > held) {
    throw new ConfigError(
      `budget is ${budget}; these modules store from ${least} (one rank) to ${held} (all they start with)`,
      'budget',
    );
  }
  if (cutStep(plan) < 1) {
    throw new ConfigError(
      `a budget needs steps before the final ${plan.finalSteps}, got ${plan.totalSteps} steps in all; train longer`,
      'budget',
    );
  }
}
