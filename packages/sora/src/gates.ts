import {
  mapTensor,
  mapValues,
  tensorAt,
  type AdapterContents,
  type AdapterLayers,
  type HostTensors,
  type Rng,
} from '@peftjs/core/method';
import {
  rankedPaths,
  rankValues,
  selectRanks,
  type RankCost,
  type RankScores,
  type ScoredRank,
} from '@peftjs/core/ranks';
import { rowNorms, transposed } from '@peftjs/core/linalg';

/** Returns the number of parameters that live ranks (with nonzero gates) store. */
export function liveCost(gates: readonly ScoredRank[]): number {
  return gates.reduce((sum, { cost, value }) => sum + (value === 0 ? 0 : cost), 0);
}

/** Returns the shrinkage that, applied to all gates, zeroes gates that store `excess` parameters or just less. */
export function shrinkageFor(gates: readonly ScoredRank[], excess: number): number {
  const live = gates
    .map(({ cost, value }) => ({ cost, size: Math.abs(value) }))
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
 * weight but shrinks at another speed. The size of that change is s |g_i| ||A_i|| ||B_i||, s the module's scaling.
 *
 * @example rankSizes(activeAdapter(peft))
 * @throws ShapeError when a tensor is missing.
 */
export function rankSizes({
  layers,
  values,
}: Pick<AdapterContents, 'layers' | 'values'>): Record<string, readonly RankSize[]> {
  return mapValues(rankValues(layers, values, 'gate'), (gates, path) => {
    const normsA = rowNorms(transposed(tensorAt(values, `${path}.loraA`))); // [in, r] -> r norms
    const normsB = rowNorms(tensorAt(values, `${path}.loraB`)); // [r, out] -> r norms
    return Array.from(gates, (gate, rank) => ({
      gate,
      normA: normsA[rank] as number,
      normB: normsB[rank] as number,
    }));
  });
}

/** The value of a pruned gate that is revived to fill a budget: small enough that the outputs hardly change. */
const REVIVED_GATE = 1e-3;
/** |g| of a pruned gate in its importance: below every live gate, so that pruned ranks compete by A and B alone. */
const DEAD_SIZE = 1e-9;

/**
 * Returns the importance of all ranks by module path: their share in the weight's change, s |g_i| ||A_i|| ||B_i||.
 * @throws ShapeError when a tensor is missing.
 */
export function importances(layers: AdapterLayers, values: HostTensors): RankScores {
  const scalings = relativeScalings(layers);
  return mapValues(rankSizes({ layers, values }), (ranks, path) =>
    ranks.map(({ gate, normA, normB }) => (Math.abs(gate) || DEAD_SIZE) * normA * normB * (scalings[path] as number)),
  );
}

/**
 * Returns the scaling s = alpha / r of each module with ranks in units of the first one's: 1, unless `rankPattern` or
 * `alphaPattern` makes them differ.
 */
export function relativeScalings(layers: AdapterLayers): Record<string, number> {
  const scalings = rankedPaths(layers).map((path) => [path, tensorAt(layers, path).scaling ?? 1] as const);
  const unit = scalings.find(([, scaling]) => scaling !== 0)?.[1] ?? 1;
  return Object.fromEntries(scalings.map(([path, scaling]) => [path, scaling / unit]));
}

/** Draws a score for every rank: its cost times a uniform number in [0, 1), so that its size makes no difference. */
export function randomScores(gates: RankScores, cost: RankCost, rng: Rng): RankScores {
  return mapValues(gates, ({ length }, path) => {
    const own = rng.fork(path);
    return Array.from({ length }, () => own.uniform() * cost(path));
  });
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
  for (const path of rankedPaths(layers)) {
    const gates = tensorAt(values, `${path}.gate`);
    const ranks = new Set(kept[path]);
    const revived = (gate: number): number => (gate === 0 ? REVIVED_GATE : gate + Math.sign(gate) * refund);
    changes[`${path}.gate`] = mapTensor(gates, (gate, rank) => (ranks.has(rank) ? revived(gate) : 0));
    changes[`${path}.mask`] = mapTensor(gates, (_, rank) => Number(ranks.has(rank)));
  }
  return changes;
}
