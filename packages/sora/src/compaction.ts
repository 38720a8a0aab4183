import {
  allocatedCost,
  keepRanks,
  withRankCounts,
  type AdapterContents,
  type AdapterLayers,
  type ControllerChanges,
  type HostTensors,
} from '@peftjs/core';
import type { SoraConfig } from './config.js';
import { gateGroups, liveCost } from './gates.js';

/*
 * Compaction: ranks whose gates are zero leave the tensors, and so do their moments. They add nothing to the outputs, which
 * therefore stay as they are; the scaling stays alpha / r_max; a rank that has left does not come back. The step is compiled
 * anew for every batch shape, so it has to pay: with a share of 1/4 a run that ends with one rank in n has gone through
 * at most log(n) / log(4/3) compilations, seven for n = 8.
 */

/** The share of the tensors held, in parameters, that has to be dead. */
const WORTHWHILE = 0.25;

/**
 * Takes dead ranks out of the layers, where they are enough to be worth it. Where every rank is dead there would be nothing to
 * train, and nothing changes.
 * @param values the gates of every layer that has ranks, `<path>.gate` [ranks]
 */
export function compaction(layers: AdapterLayers, values: HostTensors): Pick<ControllerChanges, 'resized'> {
  const groups = gateGroups(layers, values);
  const [held, live] = [allocatedCost(layers), liveCost(groups)];
  if (live === 0 || live === held || held - live < WORTHWHILE * held) return {};
  return { resized: keepRanks(layers, Object.fromEntries(groups.map(({ path, gate }) => [path, liveRanks(gate)]))) };
}

/** The layers that values of a later step fit. @throws CheckpointError when they have ranks that a layer does not. */
export function resumedLayers({ layers, values }: AdapterContents<SoraConfig>): AdapterLayers {
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.gate`]?.data.length ?? 0),
  );
}

function liveRanks(gate: Float32Array): number[] {
  return [...gate.keys()].filter((rank) => gate[rank] !== 0);
}
