import type { CarryKind } from '../optimizers/optimizer.js';
import { CheckpointError, ConfigError, TrainingError, UnsupportedError } from '../errors.js';
import type { ResizedLayer, TrainPlan } from '../contracts/controller.js';
import type { AdapterLayer, AdapterLayers, LoraFactors } from '../contracts/layer.js';
import {
  floats,
  hostTensor,
  hostZeros,
  mapValues,
  tensorAt,
  transposed,
  type HostTensor,
  type HostTensors,
} from '../tensors.js';
import { pickColumns, pickRows, product, singularFactors, type SingularFactors } from './factors.js';
import type { RankCost } from './added-ranks.js';
import { rankCost } from './budget.js';
import { isNearBudget, selectWithinBudget } from './within-budget.js';
import { valuesOf } from '../adapter/peft-model.js';

/*
 * Low-rank layers whose ranks change. A tensor's name determines which axis holds its ranks: names that end in `loraA`
 * are [in, r], in `loraB` [r, out], and all others [r]. The functions of such a layer read the rank from the shapes
 * they get. A resized layer is therefore the same layer with other tensors, or without any when no rank is left.
 */

/** A change of one layer's ranks. */
export interface RankChange {
  /** Indices of the ranks that stay, in their new order. */
  readonly kept: readonly number[];
  /**
   * New ranks to append, by tensor name: A `[in, new]`, B `[new, out]`, any other `[new]`. Their moments start at zero.
   */
  readonly added?: HostTensors;
}

/** Returns the number of ranks that a low-rank layer has tensors for, including pruned ones. */
export function allocatedRanks({ params }: AdapterLayer): number {
  return params.loraA?.initial.shape[1] ?? 0;
}

/** Returns the total number of ranks of all layers, including pruned ones. */
export function totalRanks(layers: AdapterLayers): number {
  return Object.values(layers).reduce((sum, layer) => sum + allocatedRanks(layer), 0);
}

/** Returns what a rank of each module stores, by the module's path. */
export function rankCostIn(layers: AdapterLayers): RankCost {
  return (path) => rankCost(tensorAt(layers, path).site);
}

/** Returns the paths of the low-rank layers with at least one rank; the others have no tensors. */
export function rankedPaths(layers: AdapterLayers): string[] {
  return Object.keys(layers).filter((path) => allocatedRanks(tensorAt(layers, path)) > 0);
}

/** Returns the layers that lose ranks, resized to the ranks given by path, in that order. */
export function keepRanks(
  layers: AdapterLayers,
  kept: Readonly<Record<string, readonly number[]>>,
): Record<string, ResizedLayer> {
  return changeRanks(
    layers,
    mapValues(kept, (ranks) => ({ kept: ranks })),
  );
}

/** Returns the layers that lose or gain ranks, resized. */
export function changeRanks(
  layers: AdapterLayers,
  changes: Readonly<Record<string, RankChange>>,
): Record<string, ResizedLayer> {
  const changed = Object.entries(changes).filter(
    ([path, { kept, added }]) => added !== undefined || kept.length < allocatedRanks(tensorAt(layers, path)),
  );
  return Object.fromEntries(
    changed.map(([path, { kept, added }]) => {
      const carry: ResizedLayer['carry'] = (name, tensor, kind) => {
        const remaining = pickRanks(name, tensor, kept);
        if (!added) return remaining;
        const next = tensorAt(added, name);
        return joinRanks(name, remaining, kind === 'value' ? next : hostZeros(next.shape));
      };
      return [path, { layer: resizedLayer(tensorAt(layers, path), carry), carry }];
    }),
  );
}

/** Returns all layers, with the resized ones replaced. */
export function withResized(
  layers: AdapterLayers,
  resized: Readonly<Record<string, ResizedLayer>> = {},
): AdapterLayers {
  return { ...layers, ...mapValues(resized, ({ layer }) => layer) };
}

/**
 * Returns the layers reduced to their first `counts` ranks, in the order of the layers. @throws CheckpointError when
 * one has fewer.
 */
export function withRankCounts(layers: AdapterLayers, counts: readonly number[]): AdapterLayers {
  const kept = Object.entries(layers).map(([path, layer], index) => {
    const [count, allocated] = [counts[index] ?? 0, allocatedRanks(layer)];
    if (count <= allocated) return [path, Array.from({ length: count }, (_, rank) => rank)] as const;
    throw new CheckpointError(
      `the snapshot has ${count} ranks of '${path}', the adapter ${allocated}; resume with the run's first adapter`,
      path,
    );
  });
  return withResized(layers, keepRanks(layers, Object.fromEntries(kept)));
}

function resizedLayer(layer: AdapterLayer, carry: ResizedLayer['carry']): AdapterLayer {
  const carried = <T extends { readonly initial: HostTensor }>(spec: T, name: string): T => ({
    ...spec,
    initial: carry(name, spec.initial, 'value'),
  });
  const next = { ...layer, params: mapValues(layer.params, carried), state: mapValues(layer.state ?? {}, carried) };
  if (allocatedRanks(next) > 0) return next;
  return bareLayer(
    layer,
    mapValues({ ...next.params, ...next.state }, ({ initial }) => initial),
  );
}

/**
 * Makes the layer of a module that has lost every rank. It has no tensors, because engines reject tensors of size zero.
 */
function bareLayer({ site, toLora }: AdapterLayer, withoutRanks: HostTensors): AdapterLayer {
  return {
    site,
    params: {},
    forward: (_x, _p, at) => at.base(),
    ...(toLora && { toLora: () => toLora(withoutRanks) }),
    storedParameters: () => 0,
    rank: () => 0,
  };
}

/** Picks ranks of one of a layer's tensors, or of its moments. */
function pickRanks(name: string, tensor: HostTensor, ranks: readonly number[]): HostTensor {
  if (name.endsWith('loraA')) return pickColumns(tensor, ranks); // [in, r] -> [in, ranks]
  if (name.endsWith('loraB')) return pickRows(tensor, ranks); // [r, out] -> [ranks, out]
  const values = floats(tensor, name);
  return hostTensor(
    Float32Array.from(ranks, (rank) => values[rank] as number),
    [ranks.length],
  );
}

/** Appends the ranks of a second tensor to those of the first. */
function joinRanks(name: string, first: HostTensor, second: HostTensor): HostTensor {
  if (name.endsWith('loraA')) return transposed(joinRanks('loraB', transposed(first), transposed(second)));
  const [count = 0, ...rest] = first.shape; // ranks are the first axis of all tensors but A
  const data = Float32Array.from([...floats(first, name), ...floats(second, name)]);
  return hostTensor(data, [count + (second.shape[0] as number), ...rest]);
}

/*
 * Pruning to a budget in the middle of a run: once, before the final phase, low-rank layers are cut to what the budget
 * allows. A knapsack over all modules selects the ranks to keep, with a rank's score as its value and in + out as its
 * cost.
 */

/** The share of a budget that the kept ranks must fill where they can. */
const FILLED = 0.99;

/** A number for every rank, by module path. */
export type RankScores = Readonly<Record<string, ArrayLike<number>>>;

/**
 * Returns the ranks of all layers whose total score is highest within a budget. They fill at least 99 % of it where
 * they can.
 * @param scores one per rank, at least zero
 * @returns the indices of the kept ranks by path, ascending
 */
export function selectRanks(layers: AdapterLayers, scores: RankScores, budget: number): Record<string, number[]> {
  const offered = Object.entries(scores).flatMap(([path, values]) => {
    const cost = rankCost(tensorAt(layers, path).site);
    return Array.from(values, (value, rank) => ({ path, rank, value, cost }));
  });
  const selected = selectWithinBudget(offered, budget, { atLeast: FILLED * budget });
  const kept = Object.fromEntries(Object.keys(scores).map((path) => [path, [] as number[]]));
  offered.forEach(({ path, rank }, index) => {
    if (selected[index]) kept[path]?.push(rank);
  });
  return kept;
}

/** Returns the number of parameters of all ranks that the layers have tensors for. */
export function allocatedCost(layers: AdapterLayers): number {
  return Object.values(layers).reduce((sum, layer) => sum + allocatedRanks(layer) * rankCost(layer.site), 0);
}

/** Returns the step after which a run with a budget prunes its ranks: the last one before the final phase. */
export function pruneStep({ totalSteps, finalSteps }: TrainPlan): number {
  return totalSteps - finalSteps;
}

/**
 * Returns the error for a training loop that never called the controller, so that ranks were not pruned when due.
 * @param what the start of the message: what did not happen
 */
export function missedStep(what: string, step: number, due: number): TrainingError {
  return new TrainingError(
    `${what}: step ${step} begins, but 'afterStep' was not called after step ${due}`,
    String(step),
  );
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
 * Checks that a run of this length can prune these layers to a budget.
 * @param tolerance the share by which a method may miss its budget
 * @throws ConfigError for a budget further above what they store or that does not pay for one rank, and when there is no
 * step before the final phase.
 */
export function assertPrunable(layers: AdapterLayers, budget: number, plan: TrainPlan, tolerance = 0.01): void {
  const all = allocatedCost(layers);
  const least = Math.min(...rankedPaths(layers).map((path) => rankCost(tensorAt(layers, path).site)));
  if (budget < least || budget * (1 - tolerance) > all) {
    throw new ConfigError(
      `budget is ${budget}; these modules store from ${least} (one rank) to ${all} (all they start with)`,
      'budget',
    );
  }
  if (pruneStep(plan) < 1) {
    throw new ConfigError(
      `a budget needs steps before the final ${plan.finalSteps}, got ${plan.totalSteps} steps in all; train longer`,
      'budget',
    );
  }
}

/*
 * Truncation of low-rank layers in the middle of a run. Of dW = U S V^T every module keeps its first singular values,
 * as many as maximise the sum of their squares over all modules within the budget. No other change of this size is
 * nearer to all dW together (Eckart and Young, 1936, module by module).
 *
 *   A' = U_k S_k^1/2   B' = S_k^1/2 V_k^T         factors.ts
 *   m  : dL/dA' = dL/dA turnA                     the first moment transforms as the gradient does
 *   v  : v' = v turnA^2, entry by entry           the second one as if gradients of different ranks were independent
 */

/**
 * Returns the layers that lose ranks when all are truncated to a budget, resized. The other layers are not changed.
 * @param values `<path>.<name>` of the layers that have ranks
 * @throws UnsupportedError when a layer is not a low-rank change of its weight.
 */
export function truncateToBudget(
  layers: AdapterLayers,
  values: HostTensors,
  budget: number,
): Record<string, ResizedLayer> {
  const ranked = rankedPaths(layers).map((path) => [path, factorsOf(tensorAt(layers, path), values)] as const);
  const bases = mapValues(Object.fromEntries(ranked), singularFactors);
  const energies = mapValues(bases, ({ singularValues }) => singularValues.map((value) => value ** 2));
  const kept = selectRanks(layers, energies, budget);
  return mapValues(keepRanks(layers, kept), ({ layer }, path) => ({
    layer,
    carry: (name, tensor, kind) => turned(name, tensor, kind, tensorAt(bases, path), tensorAt(kept, path)),
  }));
}

function factorsOf(layer: AdapterLayer, values: HostTensors): LoraFactors {
  if (layer.toLora) return layer.toLora(valuesOf(layer, values));
  const { path } = layer.site;
  throw new UnsupportedError(`the adapter of '${path}' is no low-rank change of its weight`, path);
}

/** Transforms one of a layer's tensors, or its moments, to the singular basis, and keeps the given ranks. */
function turned(
  name: string,
  tensor: HostTensor,
  kind: CarryKind,
  { loraA, loraB, turnA, turnB }: SingularFactors,
  kept: readonly number[],
): HostTensor {
  const isA = name.endsWith('loraA');
  if (kind === 'value') return isA ? pickColumns(loraA, kept) : pickRows(loraB, kept);
  const turn = isA ? pickColumns(turnA, kept) : pickRows(turnB, kept);
  const weights = kind === 'gradient' ? turn : squared(turn);
  return isA ? product(tensor, weights) : product(weights, tensor); // [in, r] [r, kept], or [kept, r] [r, out]
}

function squared(matrix: HostTensor): HostTensor {
  return hostTensor(
    floats(matrix).map((value) => value * value),
    matrix.shape,
  );
}
