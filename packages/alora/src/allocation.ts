import { isNearBudget, selectWithinBudget } from '@peftjs/core/method';

/*
 * Who loses ranks and who gets them in a round (Liu et al., 2024):
 *
 *   the n ranks of the lowest scores are pruned, over all modules
 *   n new ranks go to the modules that lost none, as evenly as possible, more of them to those of the higher mean score;
 *   none where every module has lost some
 *
 * Ours: ranks are paid for by what they store where there is a budget, and the last round fills it.
 */

/** Scores of the ranks that modules hold, by path; a module without any is left out. */
export type Scores = Readonly<Record<string, readonly number[]>>;

/** What becomes of every module's ranks. */
export interface Allocation {
  /** The ranks that stay, by path. */
  readonly kept: Readonly<Record<string, readonly number[]>>;
  /** How many new ones a module gets. */
  readonly added: Readonly<Record<string, number>>;
}

/** What a round has to go by. */
export interface RoundTerms {
  /** n: ranks to move. */
  readonly count: number;
  /** Parameters to store at most; null where ranks are counted. */
  readonly budget: number | null;
  /** Whether the budget has to be met now. */
  readonly isLast: boolean;
  /** What a rank of a module stores. */
  cost(path: string): number;
}

/** The ranks of every module after a round. Of equal scores those of the first module, and its first ranks, go first. */
export function allocated(scores: Scores, terms: RoundTerms): Allocation {
  const kept = keptRanks(scores, terms.count);
  const { budget, isLast, cost } = terms;
  const byMean = pathsByMean(scores);
  const unscathed = byMean.filter((path) => kept[path]?.length === scores[path]?.length);
  if (budget === null) return { kept, added: dealt(unscathed, terms.count, Infinity, cost) };
  const room = budget - storedBy(kept, cost);
  if (!isLast) return { kept, added: dealt(unscathed, terms.count, room, cost) };
  const added = dealt(unscathed.length > 0 ? unscathed : byMean, Infinity, room, cost);
  for (const path of filling(byMean, { budget, room: room - storedBy(added, cost), cost })) {
    added[path] = (added[path] ?? 0) + 1;
  }
  return { kept, added };
}

function keptRanks(scores: Scores, count: number): Record<string, number[]> {
  const ranks = Object.entries(scores).flatMap(([path, own]) => own.map((score, rank) => ({ path, rank, score })));
  const pruned = new Set([...ranks].sort((a, b) => a.score - b.score).slice(0, count)); // stable: the first of equals first
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

/** One rank after the other to each module that can be paid for, in turn, until nothing is left to give. */
function dealt(
  paths: readonly string[],
  count: number,
  room: number,
  cost: RoundTerms['cost'],
): Record<string, number> {
  const added: Record<string, number> = {};
  let [ranks, parameters] = [count, room];
  for (let given = true; given;) {
    given = false;
    for (const path of paths) {
      if (ranks < 1 || cost(path) > parameters) continue;
      added[path] = (added[path] ?? 0) + 1;
      ranks -= 1;
      parameters -= cost(path);
      given = true;
    }
  }
  return added;
}

/** How far above a budget counts as met, as a share of it. */
const ABOVE = 0.02;

/** The paths of ranks that bring what is stored near a budget: within it where that can be, else a little above. */
function filling(
  paths: readonly string[],
  { budget, room, cost }: Pick<RoundTerms, 'cost'> & { readonly budget: number; readonly room: number },
): string[] {
  const within = bestFill(paths, room, cost);
  const left = within.reduce((sum, path) => sum - cost(path), room);
  return isNearBudget(budget - left, budget) ? within : bestFill(paths, room + ABOVE * budget, cost);
}

function bestFill(paths: readonly string[], room: number, cost: RoundTerms['cost']): string[] {
  const offered = paths.flatMap((path) =>
    Array.from({ length: Math.max(0, Math.floor(room / cost(path))) }, () => ({ path, value: 0, cost: cost(path) })),
  );
  const selected = selectWithinBudget(offered, room);
  return offered.filter((_, index) => selected[index]).map(({ path }) => path);
}

function storedBy(ranks: Readonly<Record<string, number | readonly number[]>>, cost: RoundTerms['cost']): number {
  return Object.entries(ranks).reduce(
    (sum, [path, own]) => sum + (typeof own === 'number' ? own : own.length) * cost(path),
    0,
  );
}
