import { hostTensor } from '@peftjs/core';
import {
  floats,
  allocatedRanks,
  rankCost,
  rankedPaths,
  rowNorms,
  selectRanks,
  tensorAt,
  transposed,
  type AdapterContents,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
  type OfRanks,
  type Rng,
} from '@peftjs/core/method';

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

/** Names of what the ranks of all layers are made of: gates, A and B. */
export function rankNames(layers: AdapterLayers): string[] {
  return rankedPaths(layers).flatMap((path) => ['gate', 'loraA', 'loraB'].map((name) => `${path}.${name}`));
}

/** The gates of all layers. @throws ShapeError when some are missing. */
export function gateGroups(layers: AdapterLayers, values: HostTensors): GateGroup[] {
  return rankedPaths(layers).map((path) => ({
    path,
    cost: rankCost(tensorAt(layers, path).site),
    gate: floats(tensorAt(values, `${path}.gate`)),
  }));
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

/**
 * How much a rank adds to the weight, |g| ||A_i|| ||B_i||, by module path.
 * @throws ShapeError when a tensor is missing.
 */
export function importances(layers: AdapterLayers, values: HostTensors): OfRanks {
  const sizes = Object.entries(rankSizes({ layers, values }));
  return Object.fromEntries(
    sizes.map(([path, ranks]) => [
      path,
      ranks.map(({ gate, normA, normB }) => (Math.abs(gate) || DEAD_SIZE) * normA * normB),
    ]),
  );
}

/** A worth drawn for every rank: of what a rank stores, a share between 0 and 1, so that ranks of all sizes are as likely. */
export function drawnWorths(layers: AdapterLayers, rng: Rng): OfRanks {
  return Object.fromEntries(
    rankedPaths(layers).map((path) => {
      const layer = tensorAt(layers, path);
      const own = rng.fork(path);
      return [path, Array.from({ length: allocatedRanks(layer) }, () => own.uniform() * rankCost(layer.site))];
    }),
  );
}

/**
 * Decides which ranks stay within a budget, by what they are worth against in + out, what they store. Gates left out become
 * zero for good; dead ones that are kept become `REVIVED_GATE`.
 * @param taken what living gates that are kept get back
 * @returns new gates and masks by name.
 */
export function selectGates(
  layers: AdapterLayers,
  values: HostTensors,
  worth: OfRanks,
  budget: number,
  taken = 0,
): HostTensors {
  const kept = selectRanks(layers, worth, budget);
  const changes: HostTensors = {};
  for (const { path, gate } of gateGroups(layers, values)) {
    const ranks = new Set(kept[path]);
    const regrown = (value: number): number => (value === 0 ? REVIVED_GATE : value + Math.sign(value) * taken);
    changes[`${path}.gate`] = vector([...gate].map((value, rank) => (ranks.has(rank) ? regrown(value) : 0)));
    changes[`${path}.mask`] = vector([...gate.keys()].map((rank) => Number(ranks.has(rank))));
  }
  return changes;
}

function vector(values: readonly number[]): HostTensor {
  return hostTensor(Float32Array.from(values), [values.length]);
}
