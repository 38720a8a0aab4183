import {
  floats,
  heldRanks,
  hostTensor,
  rankCost,
  rankedPaths,
  rowNorms,
  selectWithinBudget,
  tensorAt,
  transposed,
  type AdapterContents,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core';

/** The gates of one module. */
export interface GateGroup {
  readonly path: string;
  /** What one of its ranks stores. */
  readonly cost: number;
  /** Values of the gates, [r]. */
  readonly gate: Float32Array;
}

/** Names of the gates of all layers. */
export function gateNames(layers: AdapterLayers): string[] {
  return rankedPaths(layers).map((path) => `${path}.gate`);
}

/** The gates of all layers. @throws ShapeError when some are missing. */
export function gateGroups(layers: AdapterLayers, values: HostTensors): GateGroup[] {
  return rankedPaths(layers).map((path) => ({
    path,
    cost: rankCost(tensorAt(layers, path).site),
    gate: floats(tensorAt(values, `${path}.gate`)),
  }));
}

/** What the ranks of all layers store when every one of them is alive. */
export function heldCost(layers: AdapterLayers): number {
  return Object.values(layers).reduce((sum, layer) => sum + heldRanks(layer) * rankCost(layer.site), 0);
}

/** What the gates that are not zero store. */
export function liveCost(groups: readonly GateGroup[]): number {
  return groups.reduce((sum, { cost, gate }) => sum + cost * gate.filter((value) => value !== 0).length, 0);
}

/** How far all gates must move towards zero so that those which reach it store `excess`, or just less. */
export function shrinkageFor(groups: readonly GateGroup[], excess: number): number {
  const live = groups
    .flatMap(({ cost, gate }) => [...gate].map((value) => ({ cost, size: Math.abs(value) })))
    .filter(({ size }) => size > 0)
    .sort((a, b) => a.size - b.size);
  let room = excess;
  let shrinkage = 0;
  for (const { cost, size } of live) {
    room -= cost;
    if (room < 0) break;
    shrinkage = size;
  }
  return shrinkage;
}

/** What one rank is made of. */
export interface RankSize {
  /** g_i. */
  readonly gate: number;
  /** ||A_i||, the norm of A's column `[in]`. */
  readonly normA: number;
  /** ||B_i||, the norm of B's row `[out]`. */
  readonly normB: number;
}

/**
 * The sizes of every rank, by module path. A gate alone says little: c g with A / c is the same change of the weight, at
 * another speed of shrinking. |g_i| ||A_i|| ||B_i|| says how large that change is.
 *
 * @example rankSizes(peft.adapter)
 * @throws ShapeError when a tensor is missing.
 */
export function rankSizes({
  layers,
  values,
}: Pick<AdapterContents, 'layers' | 'values'>): Record<string, readonly RankSize[]> {
  const sizes = gateGroups(layers, values).map(({ path, gate }) => {
    const normsA = rowNorms(transposed(tensorAt(values, `${path}.loraA`))); // [in, r] -> r norms
    const normsB = rowNorms(tensorAt(values, `${path}.loraB`)); // [r, out] -> r norms
    const ranks = [...gate].map((value, rank) => ({
      gate: value,
      normA: normsA[rank] as number,
      normB: normsB[rank] as number,
    }));
    return [path, ranks] as const;
  });
  return Object.fromEntries(sizes);
}

/** A dead gate that is needed to fill a budget starts again from here: so small that outputs hardly notice. */
const REVIVED_GATE = 1e-3;
/** What a dead gate counts as when it competes: less than any living one, so that only its factors tell it from others. */
const DEAD_SIZE = 1e-9;
/** The share of a budget that a selection has to fill, where any selection can. */
const FILLED = 0.99;

/**
 * Decides which ranks stay, within a budget: by |g| ||A_i|| ||B_i||, the size of what a rank adds to the weight, against
 * in + out, what it stores. Gates left out become zero for good; dead ones that are kept become `REVIVED_GATE`.
 * @returns new gates and masks by name.
 * @throws ShapeError when a tensor is missing.
 */
export function selectGates(layers: AdapterLayers, values: HostTensors, budget: number): HostTensors {
  const groups = gateGroups(layers, values);
  const sizes = rankSizes({ layers, values });
  const items = groups.flatMap(({ path, cost }) =>
    tensorAt(sizes, path).map(({ gate, normA, normB }) => ({
      value: (Math.abs(gate) || DEAD_SIZE) * normA * normB,
      cost,
    })),
  );
  const selected = selectWithinBudget(items, budget, { atLeast: FILLED * budget });
  const changes: HostTensors = {};
  let first = 0;
  for (const { path, gate } of groups) {
    const kept = selected.slice(first, (first += gate.length));
    changes[`${path}.gate`] = vector(kept.map((keep, rank) => (keep ? (gate[rank] as number) || REVIVED_GATE : 0)));
    changes[`${path}.mask`] = vector(kept.map(Number));
  }
  return changes;
}

function vector(values: readonly number[]): HostTensor {
  return hostTensor(Float32Array.from(values), [values.length]);
}
