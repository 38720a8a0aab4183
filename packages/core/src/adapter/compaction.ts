import { CheckpointError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, ResizedLayer } from '../contracts/method.js';
import { mapValues } from '../records.js';
import { floats, hostTensor, tensorAt, type HostTensor, type HostTensors } from '../tensors.js';
import { pickColumns, pickRows } from './factors.js';

/*
 * Low-rank layers of fewer ranks. What a tensor's ranks are is told by its name: one that ends in `loraA` is [in, r], in
 * `loraB` [r, out], and any other [r]. The functions of such a layer go by the shapes they are given, not by a rank that they
 * began with: a smaller layer is then the same one with smaller tensors, and with none where no rank is left.
 */

/** Ranks that a low-rank layer has tensors for, dead ones included. */
export function heldRanks({ params }: AdapterLayer): number {
  return params.loraA?.initial.shape[1] ?? 0;
}

/** Paths of the low-rank layers that have ranks: the others have no tensors. */
export function rankedPaths(layers: AdapterLayers): string[] {
  return Object.keys(layers).filter((path) => heldRanks(tensorAt(layers, path)) > 0);
}

/** What it takes to go on with these ranks of the layers named, in that order: a change for every layer that loses some. */
export function keepRanks(
  layers: AdapterLayers,
  kept: Readonly<Record<string, readonly number[]>>,
): Record<string, ResizedLayer> {
  const smaller = Object.entries(kept).filter(([path, ranks]) => ranks.length < heldRanks(tensorAt(layers, path)));
  return Object.fromEntries(
    smaller.map(([path, ranks]) => {
      const carry = (name: string, tensor: HostTensor): HostTensor => pickRanks(name, tensor, ranks);
      return [path, { layer: smallerLayer(tensorAt(layers, path), carry, ranks.length), carry }];
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
    const [count, held] = [counts[index] ?? 0, heldRanks(layer)];
    if (count <= held) return [path, Array.from({ length: count }, (_, rank) => rank)] as const;
    throw new CheckpointError(
      `the snapshot has ${count} ranks of '${path}', the adapter ${held}; resume with the adapter that the run began with`,
      path,
    );
  });
  return withResized(layers, keepRanks(layers, Object.fromEntries(kept)));
}

function smallerLayer(
  layer: AdapterLayer,
  carry: (name: string, tensor: HostTensor) => HostTensor,
  ranks: number,
): AdapterLayer {
  const carried = <T extends { readonly initial: HostTensor }>(spec: T, name: string): T => ({
    ...spec,
    initial: carry(name, spec.initial),
  });
  const [params, state] = [mapValues(layer.params, carried), mapValues(layer.state ?? {}, carried)];
  if (ranks === 0)
    return bareLayer(
      layer,
      mapValues({ ...params, ...state }, ({ initial }) => initial),
    );
  return { ...layer, params, state };
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
