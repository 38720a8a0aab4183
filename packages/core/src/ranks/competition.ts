import type { TrainPlan } from '../contracts/controller.js';
import type { AdapterLayers } from '../contracts/layer.js';
import { warnOnce } from '../config.js';
import { ConfigError } from '../errors.js';
import { sumOf, tensorAt } from '../tensors.js';
import { rankCost } from './budget.js';
import { allocatedRanks, rankedPaths } from './changes.js';
import { isNearBudget, NEAR_SHARE, selectWithinBudget, type BudgetItem } from './within-budget.js';

/*
 * Ranks of all modules compete for what a budget stores. A rank costs in + out parameters, and its method scores it.
 */

/** Returns the number of parameters that one rank of a module stores. */
export type RankCost = (path: string) => number;

/** A number for every rank, by module path. */
export type RankScores = Readonly<Record<string, ArrayLike<number>>>;

/** A rank of a module, with its score as its value. */
export interface ScoredRank extends BudgetItem {
  /** The path of its module. */
  readonly path: string;
  /** Its index in the module. */
  readonly rank: number;
}

/** Returns what a rank of each module stores, by the module's path. */
export function rankCostIn(layers: AdapterLayers): RankCost {
  return (path) => rankCost(tensorAt(layers, path).site);
}

/** Returns the number of parameters of all ranks that the layers have tensors for. */
export function allocatedCost(layers: AdapterLayers): number {
  return sumOf(Object.values(layers), (layer) => allocatedRanks(layer) * rankCost(layer.site));
}

/** Returns all ranks, in the order of modules and ranks. */
export function scoredRanks(scores: RankScores, cost: RankCost): ScoredRank[] {
  return Object.entries(scores).flatMap(([path, own]) =>
    Array.from(own, (value, rank) => ({ path, rank, value, cost: cost(path) })),
  );
}

/** Sorts ranks by score, greatest first. Ties keep their order. */
export function bestFirst(ranks: readonly ScoredRank[]): ScoredRank[] {
  return [...ranks].sort((a, b) => b.value - a.value);
}

/** Returns some of the modules' ranks by path, ascending; an empty list for a module without any. */
export function ranksByPath(
  paths: readonly string[],
  ranks: readonly Pick<ScoredRank, 'path' | 'rank'>[],
): Record<string, number[]> {
  const byPath = Object.fromEntries(paths.map((path) => [path, [] as number[]]));
  for (const { path, rank } of ranks) byPath[path]?.push(rank);
  for (const own of Object.values(byPath)) own.sort((a, b) => a - b);
  return byPath;
}

/** The share of a budget that the kept ranks must fill where they can. */
const FILLED = 0.99;

/** Returns the ranks of the highest total score within a budget. They fill at least 99 % of it where they can. */
export function ranksThatFill<Rank extends BudgetItem>(ranks: readonly Rank[], budget: number): Rank[] {
  return selectWithinBudget(ranks, budget, { atLeast: FILLED * budget });
}

/**
 * Returns the ranks of all layers whose total score is highest within a budget. They fill at least 99 % of it where
 * they can.
 * @param scores one per rank, at least zero
 * @returns the indices of the kept ranks by path, ascending
 */
export function selectRanks(layers: AdapterLayers, scores: RankScores, budget: number): Record<string, number[]> {
  return ranksByPath(Object.keys(scores), ranksThatFill(scoredRanks(scores, rankCostIn(layers)), budget));
}

/** How new ranks are dealt to modules. */
export interface RankDeal {
  /** The modules that get a rank in turn, the first one first; a module may have several turns. */
  readonly receivers: readonly string[];
  /** The most parameters that kept and new ranks may store together; null for any number. */
  readonly budget: number | null;
  /** The parameters of a rank. */
  readonly cost: RankCost;
  /** The most new ranks. Default: any number. */
  readonly count?: number;
  /** How often all receivers have their turns. Default: until none gets a rank. */
  readonly rounds?: number;
  /** Returns the highest rank that a module may have. Default: any. */
  readonly most?: (path: string) => number;
}

/** The ranks that modules keep, or how many they get, by path. */
type Ranks = Readonly<Record<string, number | readonly number[]>>;

function costOf(ranks: Ranks, cost: RankCost): number {
  return sumOf(Object.entries(ranks), ([path, own]) => (typeof own === 'number' ? own : own.length) * cost(path));
}

/**
 * Deals new ranks to modules, one at a time, and skips a module whose rank the budget does not pay for.
 * @param kept the ranks that modules keep, by path
 * @returns the number of new ranks of each module that gets some
 */
export function dealRanks(
  kept: Readonly<Record<string, readonly number[]>>,
  { receivers, budget, cost, count = Infinity, rounds = Infinity, most = () => Infinity }: RankDeal,
): Record<string, number> {
  const added: Record<string, number> = {};
  let [left, room] = [count, budget === null ? Infinity : budget - costOf(kept, cost)];
  for (let round = 0, dealtAny = true; dealtAny && round < rounds; round++) {
    dealtAny = false;
    for (const path of receivers) {
      const more = (added[path] ?? 0) + 1;
      if (left < 1 || cost(path) > room || (kept[path]?.length ?? 0) + more > most(path)) continue;
      added[path] = more;
      left -= 1;
      room -= cost(path);
      dealtAny = true;
    }
  }
  return added;
}

/**
 * Deals new ranks, and then gives any of the modules `fillers` those that fill the rest of the budget: from below if
 * that comes within 2 % of it, else up to 2 % above.
 */
export function fillBudget(
  kept: Readonly<Record<string, readonly number[]>>,
  deal: RankDeal & { readonly budget: number },
  fillers: readonly string[],
): Record<string, number> {
  const { budget, cost, most = () => Infinity } = deal;
  const added = dealRanks(kept, deal);
  const room = budget - costOf(kept, cost) - costOf(added, cost);
  const free = (path: string): number => most(path) - (kept[path]?.length ?? 0) - (added[path] ?? 0);
  const below = modulesThatFill(fillers, room, cost, free);
  const left = below.reduce((sum, path) => sum - cost(path), room);
  const isNear = isNearBudget(budget - left, budget);
  for (const path of isNear ? below : modulesThatFill(fillers, room + NEAR_SHARE * budget, cost, free)) {
    added[path] = (added[path] ?? 0) + 1;
  }
  return added;
}

/** Returns the module of each new rank that fills `room` parameters best, from below. @param free ranks that it may get */
function modulesThatFill(paths: readonly string[], room: number, cost: RankCost, free: RankCost): string[] {
  const offered = paths.flatMap((path) => {
    const length = Math.max(0, Math.min(free(path), Math.floor(room / cost(path))));
    return Array.from({ length }, () => ({ path, value: 0, cost: cost(path) }));
  });
  return selectWithinBudget(offered, room).map(({ path }) => path);
}

/** Returns the step after which a run with a budget prunes its ranks: the last one before the final phase. */
export function pruneStep({ totalSteps, finalSteps }: TrainPlan): number {
  return totalSteps - finalSteps;
}

/**
 * Checks that a method that only moves ranks starts within its budget. @throws ConfigError when the ranks store over 2
 * % more.
 */
export function assertStartFits(layers: AdapterLayers, budget: number): void {
  const held = allocatedCost(layers);
  if (held <= budget || isNearBudget(held, budget)) return;
  throw new ConfigError(
    `budget is ${budget}; the ranks that these modules start with store ${held} and only move: start with fewer`,
    'budget',
  );
}

/**
 * Checks that a run of this length can prune these layers to a budget. Warns if they are within it already: an adapter
 * that was pruned before trains on at its ranks.
 * @throws ConfigError for a budget that does not pay for one rank, when no rank is left, and when there is no step
 * before the final phase.
 */
export function assertPrunable(layers: AdapterLayers, budget: number, plan: TrainPlan): void {
  const all = allocatedCost(layers);
  const costs = rankedPaths(layers).map(rankCostIn(layers));
  if (costs.length === 0) {
    throw new ConfigError('no module of this adapter has a rank left to prune: attach a new one', 'budget');
  }
  const least = Math.min(...costs);
  if (budget < least) {
    throw new ConfigError(`budget is ${budget}, less than the ${least} parameters of one rank`, 'budget');
  }
  if (budget > all && !isNearBudget(all, budget)) {
    warnOnce(`budget is ${budget}; these modules store only ${all} parameters, so nothing is pruned`);
  }
  if (pruneStep(plan) < 1) {
    throw new ConfigError(
      `a budget needs steps before the final ${plan.finalSteps}, got ${plan.totalSteps} steps in all; train longer`,
      'budget',
    );
  }
}
