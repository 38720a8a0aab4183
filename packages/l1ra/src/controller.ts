import {
  changeRanks,
  ConfigError,
  createRng,
  cutStep,
  floats,
  allocatedCost,
  allocatedRanks,
  isNearBudget,
  missedCut,
  tensorAt,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type Controller,
  type ControllerChanges,
  type HostTensors,
  type RankChange,
  type Rng,
  type TrainPlan,
} from '@peftjs/core';
import type { L1raConfig } from './config.js';
import { l1raLayer, newRanks } from './layer.js';
import { filled, reassigned, type Gates, type Reassignment } from './reassignment.js';

/*
 * Every `rankUpdateRatio` of the steps, after the warm-up, ranks are pruned and reassigned, and the optimizer begins anew.
 *
 * With a budget (ours) the last reassignment comes before the final phase and fills it; from then on no gate reaches zero, so that
 * what is stored stays as it is.
 */

/** L1RA's decisions between steps. @throws ConfigError for a budget that the starting ranks exceed. */
export function l1raController(layers: AdapterLayers, config: L1raConfig, plan: TrainPlan): Controller {
  const { budget } = config;
  if (budget !== null) assertWithin(budget, layers);
  const every = Math.max(1, Math.floor(config.rankUpdateRatio * plan.totalSteps));
  const last = budget === null ? plan.totalSteps - 1 : cutStep(plan);
  const isFilling = (step: number): boolean => budget !== null && step === last;
  const isDue = (step: number): boolean => step % every === 0 && step > plan.warmupSteps && step <= last;
  const rng = createRng(plan.seed ?? 0).fork('new ranks');
  let [held, isFilled] = [layers, false];
  return {
    scalars(step) {
      const isFinal = budget !== null && step > last;
      if (isFinal && !isFilled) throw missedCut("L1RA's budget was not filled", step, last);
      return { leastGate: isFinal ? config.pruneThreshold : 0 };
    },
    reads: (step) => (isDue(step) || isFilling(step) ? Object.keys(held).map((path) => `${path}.gate`) : []),
    afterStep(step, values) {
      const gates = gatesOf(values);
      const decided = isFilling(step) ? filled(held, gates, config, budget ?? 0) : reassigned(held, gates, config);
      const changes = changesFor(held, decided, config, rng.fork(String(step)));
      held = withResized(held, changes.resized);
      isFilled ||= isFilling(step);
      return changes;
    },
    holdsBudget: (step) => budget === null || step > last,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), isFilled }),
    restore(state) {
      if (Array.isArray(state.ranks)) held = layersOfRanks(layers, config, state.ranks as readonly number[]);
      isFilled = state.isFilled === true;
    },
  };
}

/** The layers that values of a later step, or of a file, fit: ranks come and go. */
export function resumedLayers({ layers, config, values }: AdapterContents<L1raConfig>): AdapterLayers {
  const ranks = Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0);
  return layersOfRanks(layers, config, ranks);
}

function changesFor(
  layers: AdapterLayers,
  { kept, added }: Reassignment,
  config: L1raConfig,
  rng: Rng,
): ControllerChanges {
  const changes = Object.entries(kept).map(([path, ranks]): [string, RankChange] => {
    const count = added[path] ?? 0;
    if (count === 0) return [path, { kept: ranks }];
    return [path, { kept: ranks, added: newRanks(tensorAt(layers, path).site, count, config, rng.fork(path)) }];
  });
  const resized = changeRanks(layers, Object.fromEntries(changes));
  return Object.keys(resized).length === 0 ? {} : { resized, restartsOptimizer: true };
}

function layersOfRanks(layers: AdapterLayers, config: L1raConfig, ranks: readonly number[]): AdapterLayers {
  const rng = createRng(0); // shapes are all that is needed: values are those of the run
  return Object.fromEntries(
    Object.entries(layers).map(([path, { site }], index) => [
      path,
      l1raLayer(site, config, newRanks(site, ranks[index] ?? 0, config, rng)),
    ]),
  );
}

function gatesOf(values: HostTensors): Gates {
  const suffix = '.gate'.length;
  return Object.fromEntries(Object.entries(values).map(([key, gate]) => [key.slice(0, -suffix), floats(gate, key)]));
}

function assertWithin(budget: number, layers: AdapterLayers): void {
  const held = allocatedCost(layers);
  if (held <= budget || isNearBudget(held, budget)) return;
  throw new ConfigError(
    `budget is ${budget}; the ranks that these modules start with store ${held} and only move: start with fewer`,
    'budget',
  );
}
