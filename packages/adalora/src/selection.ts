import {
  floats,
  hostTensor,
  nonZeros,
  rankCost,
  rankedPaths,
  selectWithinBudget,
  tensorAt,
  type AdapterLayers,
  type BudgetItem,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core';
import type { AdaloraConfig } from './config.js';

/** The share of a budget in parameters that the final mask has to fill, where any can. */
export const FILLED = 0.99;

/** A rank that may stay: its importance and what it stores. */
interface Candidate extends BudgetItem {
  readonly path: string;
  readonly rank: number;
}

/** The tensors that a selection reads, by `<path>.<name>`. */
export function selectionReads(layers: AdapterLayers, { parametrization }: AdaloraConfig): string[] {
  const acted = parametrization === 'svd' ? 'loraE' : 'mask';
  return rankedPaths(layers).flatMap((path) => [`${path}.importance`, `${path}.${acted}`]);
}

/**
 * Masks [r] that keep the most important ranks of all modules within a budget, and E without the others (eq. 8).
 * `forGood`: this is the final mask.
 */
export function selectRanks(
  layers: AdapterLayers,
  values: HostTensors,
  budget: number,
  config: AdaloraConfig,
  forGood: boolean,
): HostTensors {
  const considered = candidates(layers, values, config);
  const stays = selected(considered, budget, config, forGood);
  const kept = considered.filter((_, index) => stays[index]);
  const changes: HostTensors = {};
  for (const path of rankedPaths(layers)) {
    const r = tensorAt(values, `${path}.importance`).data.length;
    const ranks = kept.flatMap((each) => (each.path === path ? [each.rank] : []));
    const mask = maskOf(ranks, r);
    changes[`${path}.mask`] = mask;
    if (config.parametrization === 'lora') continue;
    const loraE = floats(tensorAt(values, `${path}.loraE`));
    changes[`${path}.loraE`] = hostTensor(
      loraE.map((value, rank) => (mask.data[rank] ? value : 0)),
      [r],
    );
  }
  return changes;
}

/** A mask [r] that keeps these ranks. */
export function maskOf(ranks: readonly number[], r: number): HostTensor {
  const mask = new Float32Array(r);
  for (const rank of ranks) mask[rank] = 1;
  return hostTensor(mask, [r]);
}

/** Every triplet, for a masked one may come back; of the doublets only those that are left. Layer after layer. */
function candidates(layers: AdapterLayers, values: HostTensors, { parametrization }: AdaloraConfig): Candidate[] {
  return rankedPaths(layers).flatMap((path) => {
    const cost = rankCost(tensorAt(layers, path).site);
    const importance = floats(tensorAt(values, `${path}.importance`));
    const ranks = parametrization === 'svd' ? [...importance.keys()] : nonZeros(tensorAt(values, `${path}.mask`));
    return ranks.map((rank) => ({ path, rank, value: importance[rank] as number, cost }));
  });
}

function selected(
  items: readonly BudgetItem[],
  budget: number,
  { budgetUnit, allocator }: AdaloraConfig,
  forGood: boolean,
): boolean[] {
  if (budgetUnit === 'parameters') {
    return selectWithinBudget(items, budget, forGood ? { atLeast: FILLED * budget } : {});
  }
  const choose = allocator === 'paper' ? greatest : aboveThreshold;
  return choose(
    items.map(({ value }) => value),
    Math.floor(budget),
  );
}

/** The `count` greatest values, ties by index: never more, never fewer. */
function greatest(values: readonly number[], count: number): boolean[] {
  const order = values.map((_, index) => index).sort((a, b) => (values[b] as number) - (values[a] as number) || a - b);
  const kept = new Set(order.slice(0, count));
  return values.map((_, index) => kept.has(index));
}

/** The values above the greatest one that has to go when `count` stay: what equals it goes too. */
function aboveThreshold(values: readonly number[], count: number): boolean[] {
  const threshold = [...values].sort((a, b) => b - a)[count] ?? -Infinity;
  return values.map((value) => value > threshold);
}
