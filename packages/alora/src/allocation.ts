import { dealRanks, isNearBudget, ranksThatFill, type RankCost } from '@peftjs/core/method';

/*
 * How ranks move in one round (Liu et al., 2024):
 *
 *   The n ranks with the lowest scores over all modules are pruned.
 *   n new ranks go to the modules that lost none, as evenly as possible; modules with a higher mean score get the extra
 *   ones. If every module has lost some, no ranks are added.
 *
 * Ours: with a budget, ranks cost the parameters that they store, and the last round fills the budget.
 */

/** The scores of all ranks, by module path. Modules without ranks are left out. */
export type Scores = Readonly<Record<string, readonly number[]>>;

/** The result of a round. */
export interface Allocation {
  /** The ranks that each module keeps, by path. */
  readonly kept: Readonly<Record<string, readonly number[]>>;
  /** The number of new ranks of each module, by path. */
  readonly added: Readonly<Record<string, number>>;
}

/** The terms of a round. */
export interface RoundTerms {
  /** n, the number of ranks to move. */
  readonly count: number;
  /** The most parameters to store; null counts ranks instead. */
  readonly budget: number | null;
  /** Whether this round has to fill the budget. */
  readonly isLast: boolean;
  /** The parameters of a rank. */
  readonly cost: RankCost;
}

/** Returns the ranks of every module after a round. Ties: the first module's first ranks are pruned first. */
export function allocateRanks(scores: Scores, terms: RoundTerms): Allocation {
  const kept = keptRanks(scores, terms.count);
  const { budget, isLast, cost } = terms;
  const byMean = pathsByMean(scores);
  const intact = byMean.filter((path) => kept[path]?.length === scores[path]?.length);
  const room = budget === null ? Infinity : budget - storedBy(kept, cost);
  if (budget === null || !isLast) return { kept, added: dealRanks(intact, { count: terms.count, room, cost }) };
  const added = dealRanks(intact.length > 0 ? intact : byMean, { count: Infinity, room, cost });
  for (const path of filling(byMean, { budget, room: room - storedBy(added, cost), cost })) {
    added[path] = (added[path] ?? 0) + 1;
  }
  return { kept, added };
}

function keptRanks(scores: Scores, count: number): Record<string, number[]> {
  const ranks = Object.entries(scores).flatMap(([path, own]) => own.map((score, rank) => ({ path, rank, score })));
  const pruned = new Set([...ranks].sort((a, b) => a.score - b.score).slice(0, count)); // stable: ties keep their order
  const kept = Object.fromEntries(Object.keys(scores).map((path) => [path, [] as number[]]));
  for (const each of ranks) if (!pruned.has(each)) kept[each.path]?.push(each.rank);
  return kept;
}

function pathsByMean(scores: Scores): string[] {
  const means = Object.entries(scores).map(([path, own]) => ({
    path,
    mean: own.reduce((sum, score) => sum + score, 0) / own.length,
  }));
  return means.sort((a, b) => b.mean - a.mean).map(({ path }) => path);
}

/** How far above a budget still counts as met, as a share of it. */
const ABOVE = 0.02;

/** Returns the paths of ranks that fill a budget: from below if possible, else from slightly above. */
function filling(
  paths: readonly string[],
  { budget, room, cost }: Pick<RoundTerms, 'cost'> & { readonly budget: number; readonly room: number },
): string[] {
  const within = ranksThatFill(paths, room, cost);
  const left = within.reduce((sum, path) => sum - cost(path), room);
  return isNearBudget(budget - left, budget) ? within : ranksThatFill(paths, room + ABOVE * budget, cost);
}

function storedBy(ranks: Readonly<Record<string, number | readonly number[]>>, cost: RankCost): number {
  return Object.entries(ranks).reduce(
    (sum, [path, own]) => sum + (typeof own === 'number' ? own : own.length) * cost(path),
    0,
  );
}
