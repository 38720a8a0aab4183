import type { CarriedKind } from '../optimizers/optimizer.js';
import { CheckpointError, ConfigError, TrainingError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, LoraFactors, ResizedLayer, TrainPlan } from '../contracts/method.js';
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
import { rankCost } from './budget.js';
import { isNearBudget, selectWithinBudget } from './within-budget.js';
import { valuesOf } from './peft-model.js';

/*
 * Low-rank layers of other ranks. What a tensor's ranks are is told by its name: one that ends in `loraA` is [in, r], in
 * `loraB` [r, out], and any other [r]. The functions of such a layer go by the shapes they are given, not by a rank that they
 * began with: a layer of other ranks is then the same one with other tensors, and with none where no rank is left.
 */

/** What becomes of a layer's ranks. */
export interface RankChange {
  /** The ranks that stay, in this order. */
  readonly kept: readonly number[];
  /** Ranks that follow them, by the layer's own names: A `[in, new]`, B `[new, out]`, any other `[new]`. Their moments are zero. */
  readonly added?: HostTensors;
}

/** Ranks that a low-rank layer has tensors for, dead ones included. */
export function allocatedRanks({ params }: AdapterLayer): number {
  return params.loraA?.initial.shape[1] ?? 0;
}

/** How many ranks all layers have, dead ones included. */
export function totalRanks(layers: AdapterLayers): number {
  return Object.values(layers).reduce((sum, layer) => sum + allocatedRanks(layer), 0);
}

/** Paths of the low-rank layers that have ranks: the others have no tensors. */
export function rankedPaths(layers: AdapterLayers): string[] {
  return Object.keys(layers).filter((path) => allocatedRanks(tensorAt(layers, path)) > 0);
}

/** What it takes to go on with these ranks of the layers named, in that order: a change for every layer that loses some. */
export function keepRanks(
  layers: AdapterLayers,
  kept: Readonly<Record<string, readonly number[]>>,
): Record<string, ResizedLayer> {
  return changeRanks(
    layers,
    mapValues(kept, (ranks) => ({ kept: ranks })),
  );
}

/** What it takes to go on with other ranks of the layers named: a change for every layer that loses or gains some. */
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

/** The layers after a change. */
export function withResized(
  layers: AdapterLayers,
  resized: Readonly<Record<string, ResizedLayer>> = {},
): AdapterLayers {
  return { ...layers, ...mapValues(resized, ({ layer }) => layer) };
}

/** The same layers with so many ranks each, in their order. @throws CheckpointError when one has fewer. */
export function withRankCounts(layers: AdapterLayers, counts: readonly number[]): AdapterLayers {
  const kept = Object.entries(layers).map(([path, layer], index) => {
    const [count, allocated] = [counts[index] ?? 0, allocatedRanks(layer)];
    if (count <= allocated) return [path, Array.from({ length: count }, (_, rank) => rank)] as const;
    throw new CheckpointError(
      `the snapshot has ${count} ranks of '${path}', the adapter ${allocated}; resume with the adapter that the run began with`,
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

/** A module that has lost every rank: the frozen one, without tensors, for engines take none of size zero. */
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

/** The ranks named of one of a layer's tensors, or of its moments. */
function pickRanks(name: string, tensor: HostTensor, ranks: readonly number[]): HostTensor {
  if (name.endsWith('loraA')) return pickColumns(tensor, ranks); // [in, r] -> [in, ranks]
  if (name.endsWith('loraB')) return pickRows(tensor, ranks); // [r, out] -> [ranks, out]
  const values = floats(tensor, name);
  return hostTensor(
    Float32Array.from(ranks, (rank) => values[rank] as number),
    [ranks.length],
  );
}

/** A tensor's ranks followed by others of the same tensor. */
function joinRanks(name: string, first: HostTensor, second: HostTensor): HostTensor {
  if (name.endsWith('loraA')) return transposed(joinRanks('loraB', transposed(first), transposed(second)));
  const [count = 0, ...rest] = first.shape; // the ranks of all but A come first
  const data = Float32Array.from([...floats(first, name), ...floats(second, name)]);
  return hostTensor(data, [count + (second.shape[0] as number), ...rest]);
}

/*
 * A budget that is met in the middle of a run: what low-rank layers store is cut down to it once, before the final phase. Which
 * ranks stay is a knapsack over all modules, of what each rank is worth against in + out, what it stores.
 */

/** The share of a budget that the ranks kept have to fill, where any can. */
const FILLED = 0.99;

/** How much more than everything may be asked for, as a share of it. */
const TOLERANCE = 0.01;

/** A number for every rank, by module path. */
export type OfRanks = Readonly<Record<string, ArrayLike<number>>>;

/**
 * The ranks of all layers that are worth most together within a budget, at least 99 % of it where any can fill that.
 * @param worth of every rank, at least zero
 * @returns by path the indices of the ranks kept, ascending
 */
export function selectRanks(layers: AdapterLayers, worth: OfRanks, budget: number): Record<string, number[]> {
  const offered = Object.entries(worth).flatMap(([path, values]) => {
    const cost = rankCost(tensorAt(layers, path).site);
    return Array.from(values, (value, rank) => ({ path, rank, value, cost }));
  });
  const selected = selectWithinBudget(offered, budget, { atLeast: FILLED * budget });
  const kept = Object.fromEntries(Object.keys(worth).map((path) => [path, [] as number[]]));
  offered.forEach(({ path, rank }, index) => {
    if (selected[index]) kept[path]?.push(rank);
  });
  return kept;
}

/** What the ranks of all layers store when every one of them is alive. */
export function allocatedCost(layers: AdapterLayers): number {
  return Object.values(layers).reduce((sum, layer) => sum + allocatedRanks(layer) * rankCost(layer.site), 0);
}

/** The step after which a run with a budget cuts its ranks: the last one before the final phase. */
export function cutStep({ totalSteps, finalSteps }: TrainPlan): number {
  return totalSteps - finalSteps;
}

/**
 * That the ranks were not cut when they had to be: the loop that takes the steps did not call the controller.
 * @param what the beginning of the sentence: what has not happened
 */
export function missedCut(what: string, step: number, due: number): TrainingError {
  return new TrainingError(
    `${what}: step ${step} begins, and 'afterStep' was never called after step ${due}`,
    String(step),
  );
}

/** That ranks which only move start within a budget. @throws ConfigError where they store over 2 % more. */
export function assertStartsWithin(layers: AdapterLayers, budget: number): void {
  const held = allocatedCost(layers);
  if (held <= budget || isNearBudget(held, budget)) return;
  throw new ConfigError(
    `budget is ${budget}; the ranks that these modules start with store ${held} and only move: start with fewer`,
    'budget',
  );
}

/**
 * That layers can be cut to a budget in a run.
 * @throws ConfigError when there are more parameters asked for than they store, fewer than one rank stores, or no step before
 * the final phase.
 */
export function assertCuttable(layers: AdapterLayers, budget: number, plan: TrainPlan): void {
  const all = allocatedCost(layers);
  const least = Math.min(...rankedPaths(layers).map((path) => rankCost(tensorAt(layers, path).site)));
  if (budget < least || budget * (1 - TOLERANCE) > all) {
    throw new ConfigError(
      `budget is ${budget}; these modules store from ${least} (one rank) to ${all} (all they start with)`,
      'budget',
    );
  }
  if (cutStep(plan) < 1) {
    throw new ConfigError(
      `a budget needs steps before the final ${plan.finalSteps}, got ${plan.totalSteps} steps in all; train longer`,
      'budget',
    );
  }
}

/*
 * Truncation of low-rank layers in the middle of a run. Of dW = U S V^T every module keeps its first singular values, so many
 * that over all modules the sum of their squares is as large as the budget allows: no other change that stores as little is as
 * near to all dW together (Eckart and Young, 1936, module by module).
 *
 *   A' = U_k S_k^1/2   B' = S_k^1/2 V_k^T         factors.ts
 *   m  : dL/dA' = dL/dA turnA                     the optimizer's first moment turns as the gradient does
 *   v  : v' = v turnA^2, entry by entry           its second one as if gradients of different ranks were independent
 */

/**
 * What it takes to go on with layers cut to a budget: a change for every layer that loses ranks; the others stay as they are.
 * @param values `<path>.<name>` of the layers that have ranks
 * @throws UnsupportedError when a layer is no low-rank change of its weight.
 */
export function truncated(layers: AdapterLayers, values: HostTensors, budget: number): Record<string, ResizedLayer> {
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

/** One of a layer's tensors, or of its moments, in the singular basis, with the ranks kept. */
function turned(
  name: string,
  tensor: HostTensor,
  kind: CarriedKind,
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
