import { CheckpointError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, ResizedLayer } from '../contracts/method.js';
import { mapValues } from '../records.js';
import { floats, hostTensor, hostZeros, tensorAt, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { pickColumns, pickRows } from './factors.js';

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
    ([path, { kept, added }]) => added !== undefined || kept.length < heldRanks(tensorAt(layers, path)),
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
    const [count, held] = [counts[index] ?? 0, heldRanks(layer)];
    if (count <= held) return [path, Array.from({ length: count }, (_, rank) => rank)] as const;
    throw new CheckpointError(
      `the snapshot has ${count} ranks of '${path}', the adapter ${held}; resume with the adapter that the run began with`,
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
  if (heldRanks(next) > 0) return next;
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
  const [held = 0, ...rest] = first.shape; // the ranks of all but A come first
  const data = Float32Array.from([...floats(first, name), ...floats(second, name)]);
  return hostTensor(data, [held + (second.shape[0] as number), ...rest]);
}
