import type { ResizedLayer } from '../contracts/controller.js';
import type { AdapterLayer, AdapterLayers } from '../contracts/layer.js';
import { CheckpointError } from '../errors.js';
import {
  floats,
  hostTensor,
  hostZeros,
  mapValues,
  sumOf,
  tensorAt,
  type HostTensor,
  type HostTensors,
} from '../tensors.js';
import { startingRank } from './budget.js';
import { joinColumns, pickColumns, pickRows, stackRows } from './factors.js';

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

/**
 * Returns which share of the ranks that the modules started with they still have. A file does not say how many these
 * were, so what counts per starting rank is written times this share.
 */
export function allocatedShare(layers: AdapterLayers, config: Parameters<typeof startingRank>[1]): number {
  return totalRanks(layers) / sumOf(Object.values(layers), ({ site }) => startingRank(site, config));
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
  if (name.endsWith('loraA')) return joinColumns(first, second);
  if (name.endsWith('loraB')) return stackRows(first, second);
  const data = Float32Array.from([...floats(first, name), ...floats(second, name)]);
  return hostTensor(data, [data.length]);
}
