import {
  keepRanks,
  nonZeros,
  rankedPaths,
  tensorAt,
  withRankCounts,
  type AdapterContents,
  type AdapterLayers,
  type ControllerChanges,
  type HostTensors,
} from '@peftjs/core';
import type { AdaloraConfig } from './config.js';

/*
 * Compaction: what the final mask leaves out is zero for good, so it may leave the tensors, the scores and the moments. Outputs
 * stay as they are, for a masked triplet adds nothing to them, and the scaling stays that of initR. The steps that follow are
 * those of the whole tensors but for two things, in which masked triplets still have a say while they are there:
 *
 *   the clip norm              E_i has a gradient though it is masked, and the orthogonality term gives A_i and B_i one
 *   the orthogonality term     it turns live triplets away from masked ones, too: 4 (A_j^T A_i) A_i is part of its gradient at A_j
 *
 * A masked doublet has no gradient at all.
 */

/**
 * Takes out of the layers what the final mask leaves out. Where it leaves out everything there would be nothing to train, and
 * nothing changes.
 * @param masks `<path>.mask` [r] of every layer that has ranks
 */
export function compaction(layers: AdapterLayers, masks: HostTensors): Pick<ControllerChanges, 'resized'> {
  const kept = rankedPaths(layers).map((path) => [path, nonZeros(tensorAt(masks, `${path}.mask`))] as const);
  const resized = keepRanks(layers, Object.fromEntries(kept));
  const nothingLeft = kept.every(([, ranks]) => ranks.length === 0);
  return nothingLeft || Object.keys(resized).length === 0 ? {} : { resized };
}

/** The layers that values of a later step, or of a file, fit. @throws CheckpointError when they have ranks that a layer does not. */
export function resumedLayers({ config, layers, values }: AdapterContents<AdaloraConfig>): AdapterLayers {
  if (!config.compact) return layers;
  return withRankCounts(
    layers,
    Object.keys(layers).map((path) => values[`${path}.mask`]?.data.length ?? 0),
  );
}
