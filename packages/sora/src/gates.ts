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
  type RankScores,
  type Rng,
} from '@peftjs/core/method';

/** The gates of one module. */
export interface GateGroup {
  /** The module's path. */
  readonly path: string;
  /** Parameters that one rank stores: in + out. */
  readonly cost: number;
  /** The gates' values, [r]. */
  readonly gate: Float32Array;
}

/** Returns the gates of all layers. @throws ShapeError when some are missing. */
export function gateGroups(layers: AdapterLayers, values: HostTensors): GateGroup[] {
  return rankedPaths(layers).map((path) => ({
    path,
    cost: rankCost(tensorAt(layers, path).site),
    gate: floats(tensorAt(values, `${path}.gate`)),
  }));
}

/** Returns the number of parameters that live ranks (with nonzero gates) store. */
export function liveCost(groups: readonly GateGroup[]): number {
  return groups.reduce((sum, { cost, gate }) => sum + cost * gate.filter((value) => value !== 0).length, 0);
}

/** Returns the shrinkage that, applied to all gates, zeroes gates that store `excess` parameters or just less. */
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

/** The size of one rank: its gate and the norms of its factors. */
export interface RankSize {
  /** The gate, g_i. */
  readonly gate: number;
  /** ||A_i||, the norm of column i of A, [in]. */
  readonly normA: number;
  /** ||B_i||, the norm of row i of B, [out]. */
  readonly normB: number;
}

/**
 * Returns the sizes of all ranks by module path. A gate alone says little: c g with A / c is the same change of the
 * weight but shrinks at another speed. The size of that change is |g_i| ||A_i|| ||B_i||.
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

/** The value of a pruned gate that is revived to fill a budget: small enough that the outputs hardly change. */
const REVIVED_GATE = 1e-3;
/** |g| of a pruned gate in its importance: below every live gate, so that pruned ranks compete by A and B alone. */
const DEAD_SIZE = 1e-9;

/**
 * Returns the importance of all ranks by module path: their share in the weight's change, |g_i| ||A_i|| ||B_i||.
 * @throws ShapeError when a tensor is missing.
 */
export function importances(layers: AdapterLayers, values: HostTensors): RankScores {
  const sizes = Object.entries(rankSizes({ layers, values }));
  return Object.fromEntries(
    sizes.map(([path, ranks]) => [
      path,
      ranks.map(({ gate, normA, normB }) => (Math.abs(gate) || DEAD_SIZE) * normA * normB),
    ]),
  );
}

/** Draws a score for every rank: its cost times a uniform number in [0, 1), so that its size makes no difference. */
export function randomScores(layers: AdapterLayers, rng: Rng): RankScores {
  return Object.fromEntries(
    rankedPaths(layers).map((path) => {
      const layer = tensorAt(layers, path);
      const own = rng.fork(path);
      return [path, Array.from({ length: allocatedRanks(layer) }, () => own.uniform() * rankCost(layer.site))];
    }),
  );
}

/**
 * Chooses the ranks to keep within a budget by their scores and their cost, in + out. The gates of all others become
 * zero for good; pruned gates that are kept become `REVIVED_GATE`.
 * @param scores the score of every rank, by module path
 * @param refund what live gates that are kept get back, because thresholds took it from them
 * @returns the new gates and masks by name.
 */
export function selectGates(
  layers: AdapterLayers,
  values: HostTensors,
  scores: RankScores,
  budget: number,
  refund = 0,
): HostTensors {
  const kept = selectRanks(layers, scores, budget);
  const changes: HostTensors = {};
  for (const { path, gate } of gateGroups(layers, values)) {
    const ranks = new Set(kept[path]);
    const revived = (value: number): number => (value === 0 ? REVIVED_GATE : value + Math.sign(value) * refund);
    changes[`${path}.gate`] = vector([...gate].map((value, rank) => (ranks.has(rank) ? revived(value) : 0)));
    changes[`${path}.mask`] = vector([...gate.keys()].map((rank) => Number(ranks.has(rank))));
  }
  return changes;
}

function vector(values: readonly number[]): HostTensor {
  return hostTensor(Float32Array.from(values), [values.length]);
}
