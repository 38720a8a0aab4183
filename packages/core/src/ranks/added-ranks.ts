import { selectWithinBudget } from './within-budget.js';

/** Returns the number of parameters that one rank of a module stores. */
export type RankCost = (path: string) => number;

/** The settings of `dealRanks`. */
export interface DealRanksOptions {
  /** The most ranks to deal. */
  readonly count: number;
  /** The most parameters that they may store. */
  readonly room: number;
  /** The parameters of a rank. */
  readonly cost: RankCost;
}

/**
 * Deals new ranks to modules in turn, one at a time, until no rank is left or none can be paid for.
 * @param paths the modules, the first to be dealt a rank first
 * @returns the number of new ranks of each module that is dealt some
 */
export function dealRanks(paths: readonly string[], { count, room, cost }: DealRanksOptions): Record<string, number> {
  const added: Record<string, number> = {};
  for (let dealtAny = true; dealtAny;) {
    dealtAny = false;
    for (const path of paths) {
      if (count < 1 || cost(path) > room) continue;
      added[path] = (added[path] ?? 0) + 1;
      count -= 1;
      room -= cost(path);
      dealtAny = true;
    }
  }
  return added;
}

/** Returns the module of each new rank that fills `room` parameters best, from below. */
export function ranksThatFill(paths: readonly string[], room: number, cost: RankCost): string[] {
  const offered = paths.flatMap((path) =>
    Array.from({ length: Math.max(0, Math.floor(room / cost(path))) }, () => ({ path, value: 0, cost: cost(path) })),
  );
  const selected = selectWithinBudget(offered, room);
  return offered.filter((_, index) => selected[index]).map(({ path }) => path);
}
