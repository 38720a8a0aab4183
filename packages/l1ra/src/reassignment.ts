import { rankCost, selectWithinBudget, tensorAt, type AdapterLayers } from '@peftjs/core';
import type { L1raConfig } from './config.js';

/*
 * Who loses ranks and who gets them, as the released code decides it:
 *
 *   a rank whose gate is below the threshold is pruned, but for a module's last one
 *   the modules that lost none, those whose smallest gate is largest first, get a rank each, again and again, until as many are
 *   given as were pruned
 *
 * With a budget, ranks are paid for by what they store: a module that cannot be paid for is passed over.
 */

/** Gates of every module `[ranks]`, by path. */
export type Gates = Readonly<Record<string, ArrayLike<number>>>;

/** What becomes of every module's ranks. */
export interface Reassignment {
  /** The ranks that stay, by path. */
  readonly kept: Readonly<Record<string, readonly number[]>>;
  /** How many new ones a module gets. */
  readonly added: Readonly<Record<string, number>>;
}

/** Prunes ranks and gives as many to others, or, with a budget, as many as what is free of it pays for. */
export function reassigned(layers: AdapterLayers, gates: Gates, config: L1raConfig): Reassignment {
  const kept = keptRanks(gates, config.pruneThreshold);
  if (!config.reassign) return { kept, added: {} };
  const receivers = receiversOf(gates, config);
  const pruned = rankCount(gates) - rankCount(kept);
  if (pruned === 0) return { kept, added: {} };
  const spare = config.budget === null ? pruned : Infinity;
  return { kept, added: dealt(receivers, spare, roomFor(config, layers, kept), costsOf(layers)) };
}

/** The same, and then what is left of a budget goes to whichever modules fill it. */
export function filled(layers: AdapterLayers, gates: Gates, config: L1raConfig, budget: number): Reassignment {
  const kept = keptRanks(gates, config.pruneThreshold);
  const costs = costsOf(layers);
  const room = roomFor({ budget }, layers, kept);
  const added = dealt(receiversOf(gates, config), Infinity, room, costs);
  const left = room - Object.entries(added).reduce((sum, [path, count]) => sum + count * costs(path), 0);
  for (const path of filling(Object.keys(layers), left, costs)) added[path] = (added[path] ?? 0) + 1;
  return { kept, added };
}

function keptRanks(gates: Gates, threshold: number): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(gates).map(([path, gate]) => {
      const ranks = Array.from(gate, (_, rank) => rank);
      const kept = ranks.filter((rank) => (gate[rank] as number) >= threshold);
      return [path, kept.length > 0 ? kept : ranks.slice(-1)];
    }),
  );
}

/** Paths in the order in which they are given ranks. */
function receiversOf(gates: Gates, { pruneThreshold, excludePruned }: L1raConfig): string[] {
  const smallest = Object.entries(gates).map(([path, gate]) => ({ path, least: Math.min(...Array.from(gate)) }));
  return smallest
    .filter(({ least }) => !excludePruned || least >= pruneThreshold)
    .sort((a, b) => b.least - a.least) // stable: of equal ones the first comes first
    .map(({ path }) => path);
}

/** One rank after the other to each receiver that can be paid for, until nothing is left to give. */
function dealt(
  receivers: readonly string[],
  spare: number,
  room: number,
  costs: (path: string) => number,
): Record<string, number> {
  const added: Record<string, number> = {};
  let [ranks, parameters] = [spare, room];
  for (let given = true; given;) {
    given = false;
    for (const path of receivers) {
      if (ranks < 1 || costs(path) > parameters) continue;
      added[path] = (added[path] ?? 0) + 1;
      ranks -= 1;
      parameters -= costs(path);
      given = true;
    }
  }
  return added;
}

/** The paths of ranks that fill what is left best. */
function filling(paths: readonly string[], left: number, costs: (path: string) => number): string[] {
  const offered = paths.flatMap((path) =>
    Array.from({ length: Math.max(0, Math.floor(left / costs(path))) }, () => ({ path, value: 0, cost: costs(path) })),
  );
  const selected = selectWithinBudget(offered, left);
  return offered.filter((_, index) => selected[index]).map(({ path }) => path);
}

/** Parameters that a budget leaves beside the ranks kept; without one there is no end of it. */
function roomFor({ budget }: Pick<L1raConfig, 'budget'>, layers: AdapterLayers, kept: Reassignment['kept']): number {
  if (budget === null) return Infinity;
  const costs = costsOf(layers);
  return budget - Object.entries(kept).reduce((sum, [path, ranks]) => sum + ranks.length * costs(path), 0);
}

function costsOf(layers: AdapterLayers): (path: string) => number {
  return (path) => rankCost(tensorAt(layers, path).site);
}

function rankCount(ranks: Gates | Reassignment['kept']): number {
  return Object.values(ranks).reduce((sum, each) => sum + each.length, 0);
}
