import { hostTensor } from '@peftjs/core';
import {
  allocatedCost,
  allocatedRanks,
  assertCuttable,
  ConfigError,
  cutStep,
  firstWithinBudget,
  floats,
  isNearBudget,
  keepRanks,
  missedCut,
  rankCost,
  rankedPaths,
  rankUnit,
  tensorAt,
  withRankCounts,
  withResized,
  type AdapterContents,
  type AdapterLayers,
  type BudgetItem,
  type Controller,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import { STARTING_PER_TARGET, type DynamicDoraConfig } from './config.js';

/*
 * Components of all modules compete. Between two shares of the run, every `rankUpdateRatio` of it and at the end of that:
 *
 *   x  = (t - start) / (end - start)       how far pruning has come
 *   k  = max(1, floor((N - bT) x^3))       components that are pruned: c_i = 0 for those of the k smallest S_i, ties by index
 *   bT = n rT                              components left in the end; n modules
 *
 * so that the share that is pruned is a cubic: slow at first, where AdaLoRA's is fast. Until the end the optimizer may revive a component,
 * for its A_i and B_i stay. At the end the pruned ones leave the tensors and the moments, which does not change outputs.
 */

/**
 * Dynamic DoRA's decisions between steps. It feeds the scalar `dem`: 1 until the last pruning, 0 after it.
 * @throws ConfigError for a budget that the modules cannot meet, and where no step is left to choose ranks in.
 */
export function dynamicDoraController(layers: AdapterLayers, config: DynamicDoraConfig, plan: TrainPlan): Controller {
  const { start, end, interval } = pruningSteps(config, plan);
  assertPossible(layers, config, plan, end);
  const surplus = surplusOf(layers, config);
  const isDue = (step: number): boolean =>
    step === end || (step >= start && step < end && (step - start) % interval === 0);
  let [held, isCut] = [layers, false];
  return {
    scalars(step) {
      if (step > end && !isCut) throw missedCut("Dynamic DoRA's ranks were not chosen", step, end);
      return { dem: step > end ? 0 : 1 };
    },
    reads: (step) => (isDue(step) ? rankedPaths(held).flatMap((path) => [`${path}.importance`, `${path}.gate`]) : []),
    afterStep(step, values) {
      const components = componentsOf(held, values);
      if (step < end) {
        const count = prunedCount(surplus, (step - start) / (end - start));
        return { values: withoutGates(held, values, components, worstOf(components, count)) };
      }
      isCut = true;
      const resized = keepRanks(held, keptRanks(components, config.budget, surplus));
      held = withResized(held, resized);
      return { resized };
    },
    holdsBudget: (step) => step >= end && isCut,
    snapshot: () => ({ ranks: Object.values(held).map(allocatedRanks), isCut }),
    restore({ ranks, isCut: wasCut }) {
      if (Array.isArray(ranks)) held = withRankCounts(layers, ranks as readonly number[]);
      isCut = wasCut === true;
    },
  };
}

/** The layers that values of a later step, or of a file, fit. @throws CheckpointError when they have ranks that a layer does not. */
export function resumedLayers({ layers, values }: AdapterContents<DynamicDoraConfig>): AdapterLayers {
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0),
  );
}

/** The first and the last step after which components are pruned, and the steps from one pruning to the next. */
function pruningSteps(
  { startRatio, endRatio, rankUpdateRatio }: DynamicDoraConfig,
  plan: TrainPlan,
): { start: number; end: number; interval: number } {
  const first = Math.ceil(startRatio * plan.totalSteps);
  const end = Math.min(first + Math.floor((endRatio - startRatio) * plan.totalSteps), cutStep(plan));
  const start = Math.min(end, Math.max(1, first, plan.warmupSteps));
  return { start, end, interval: Math.max(1, Math.round(rankUpdateRatio * plan.totalSteps)) };
}

function assertPossible(layers: AdapterLayers, { budget }: DynamicDoraConfig, plan: TrainPlan, end: number): void {
  const all = allocatedCost(layers);
  if (budget !== null) assertCuttable(layers, isNearBudget(all, budget) ? Math.min(all, budget) : budget, plan);
  if (end >= 1) return;
  throw new ConfigError(
    `dynamic-dora: ranks are chosen before step ${end + 1} of ${plan.totalSteps}, which leaves no step to judge them by; train longer or raise endRatio`,
    'endRatio',
  );
}

/** N - bT, in whole components. */
function surplusOf(layers: AdapterLayers, { targetR, budget }: DynamicDoraConfig): number {
  const modules = Object.values(layers);
  const all = modules.reduce((sum, layer) => sum + allocatedRanks(layer), 0);
  const target = budget === null ? targetR : budget / rankUnit(modules.map(({ site }) => site));
  const left = target === null ? all / STARTING_PER_TARGET : target * modules.length;
  return Math.max(0, all - Math.max(1, Math.ceil(left - ROUNDING)));
}

/** What rounding may add to a number of components that is whole. */
const ROUNDING = 1e-9;

/** k: how many of the components that have to go are pruned where pruning has come as far as `progress`, from 0 to 1. */
function prunedCount(surplus: number, progress: number): number {
  return Math.min(surplus, Math.max(1, Math.floor(surplus * progress ** 3)));
}

/** A component of a module, its score and what it stores. */
interface Component extends BudgetItem {
  readonly path: string;
  readonly rank: number;
}

function componentsOf(layers: AdapterLayers, values: HostTensors): Component[] {
  return rankedPaths(layers).flatMap((path) => {
    const cost = rankCost(tensorAt(layers, path).site);
    const scores = floats(tensorAt(values, `${path}.importance`));
    return Array.from(scores, (value, rank) => ({ path, rank, value, cost }));
  });
}

/** The `count` components of the smallest scores, of equal ones the last. */
function worstOf(components: readonly Component[], count: number): Component[] {
  return [...bestFirst(components)].reverse().slice(0, count);
}

/** Greatest scores first, of equal ones the order of modules and ranks. */
function bestFirst(components: readonly Component[]): Component[] {
  return [...components].sort((a, b) => b.value - a.value);
}

function withoutGates(
  layers: AdapterLayers,
  values: HostTensors,
  components: readonly Component[],
  pruned: readonly Component[],
): HostTensors {
  const gone = new Set(pruned);
  const changed = new Set(pruned.map(({ path }) => path));
  return Object.fromEntries(
    rankedPaths(layers)
      .filter((path) => changed.has(path))
      .map((path) => {
        const gate = Float32Array.from(floats(tensorAt(values, `${path}.gate`)));
        for (const each of components) if (each.path === path && gone.has(each)) gate[each.rank] = 0;
        return [`${path}.gate`, hostTensor(gate, [gate.length])];
      }),
  );
}

/** The ranks that stay in the end, by path, ascending: so many by number, or what a budget pays for. */
function keptRanks(components: readonly Component[], budget: number | null, surplus: number): Record<string, number[]> {
  const kept = new Set(
    budget === null
      ? bestFirst(components).slice(0, components.length - surplus)
      : firstWithinBudget(bestFirst(components), budget),
  );
  const ranks = Object.fromEntries(components.map(({ path }) => [path, [] as number[]]));
  for (const each of components) if (kept.has(each)) ranks[each.path]?.push(each.rank);
  return ranks;
}
