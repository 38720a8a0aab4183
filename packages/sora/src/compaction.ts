import {
  CheckpointError,
  floats,
  hostTensor,
  pickColumns,
  pickRows,
  tensorAt,
  type AdapterContents,
  type AdapterLayer,
  type AdapterLayers,
  type ControllerChanges,
  type HostTensor,
  type HostTensors,
  type ResizedLayer,
} from '@peftjs/core';
import type { SoraConfig } from './config.js';
import { gateGroups, heldCost, liveCost } from './gates.js';
import { gatesAtStart, heldRanks, soraLayer } from './layer.js';

/*
 * Compaction: ranks whose gates are zero leave the tensors, and so do their moments. They add nothing to the outputs, which
 * therefore stay as they are; the scaling stays alpha / r_max; a rank that has left does not come back. The step is compiled
 * anew for every batch shape, so it has to pay: with a share of 1/4 a run that ends with one rank in n has gone through
 * at most log(n) / log(4/3) compilations, seven for n = 8.
 */

/** The share of the tensors held, in parameters, that has to be dead. */
const WORTHWHILE = 0.25;

/**
 * Takes dead ranks out of the layers, where they are enough to be worth it.
 * @param values the gates of every layer that has ranks, `<path>.gate` [ranks]
 */
export function compaction(
  layers: AdapterLayers,
  config: SoraConfig,
  values: HostTensors,
): Pick<ControllerChanges, 'resized'> {
  const groups = gateGroups(layers, values);
  const held = heldCost(layers);
  const dead = held - liveCost(groups);
  if (dead === 0 || dead < WORTHWHILE * held) return {};
  return {
    resized: keepRanks(layers, config, Object.fromEntries(groups.map(({ path, gate }) => [path, liveRanks(gate)]))),
  };
}

/** The layers that values of a later step fit. @throws CheckpointError when they have ranks that a layer does not. */
export function resumedLayers({ layers, config, values }: AdapterContents<SoraConfig>): AdapterLayers {
  const ranks = Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0);
  return withRankCounts(layers, config, ranks);
}

/** The same layers with so many ranks each, in their order. @throws CheckpointError when one has fewer. */
export function withRankCounts(layers: AdapterLayers, config: SoraConfig, ranks: readonly number[]): AdapterLayers {
  const entries = Object.entries(layers).map(([path, layer], index) => {
    const [count, held] = [ranks[index] ?? 0, heldRanks(layer)];
    if (count <= held) return [path, Array.from({ length: count }, (_, rank) => rank)] as const;
    throw new CheckpointError(
      `the snapshot has ${count} ranks of '${path}', the adapter ${held}; resume with the adapter that the run began with`,
      path,
    );
  });
  return { ...layers, ...layersOf(keepRanks(layers, config, Object.fromEntries(entries))) };
}

/** The layers of a change. */
export function layersOf(resized: Readonly<Record<string, ResizedLayer>>): AdapterLayers {
  return Object.fromEntries(Object.entries(resized).map(([path, { layer }]) => [path, layer]));
}

/** The layers that lose ranks, with those named alone. */
function keepRanks(
  layers: AdapterLayers,
  config: SoraConfig,
  kept: Readonly<Record<string, readonly number[]>>,
): Record<string, ResizedLayer> {
  const gates = gatesAtStart(
    Object.values(layers).map(({ site }) => site),
    config,
  );
  const smaller = Object.entries(kept).filter(([path, ranks]) => ranks.length < heldRanks(tensorAt(layers, path)));
  return Object.fromEntries(
    smaller.map(([path, ranks]) => {
      const layer = tensorAt(layers, path);
      const carry = (name: string, tensor: HostTensor): HostTensor => pickRanks(name, tensor, ranks);
      return [path, { layer: soraLayer(layer.site, config, gates, initialOf(layer, carry)), carry }];
    }),
  );
}

function liveRanks(gate: Float32Array): number[] {
  return [...gate.keys()].filter((rank) => gate[rank] !== 0);
}

function initialOf({ params, state }: AdapterLayer, carry: ResizedLayer['carry']): HostTensors {
  const specs = Object.entries({ ...params, ...state });
  return Object.fromEntries(specs.map(([name, { initial }]) => [name, carry(name, initial)]));
}

/** The ranks named of one of a layer's tensors, or of its moments. */
function pickRanks(name: string, tensor: HostTensor, ranks: readonly number[]): HostTensor {
  if (name === 'loraA') return pickColumns(tensor, ranks); // [in, r] -> [in, ranks]
  if (name === 'loraB') return pickRows(tensor, ranks); // [r, out] -> [ranks, out]
  const values = floats(tensor, name);
  return hostTensor(
    Float32Array.from(ranks, (rank) => values[rank] as number),
    [ranks.length],
  );
}
