import { floats, type AdapterContents, type HostTensors } from '@peftjs/core/method';
import { valuesOf } from '@peftjs/core/model';
import { rowNorms, transposed } from '@peftjs/core/linalg';
import type { ModuleRanks } from '../messages.js';

/**
 * Returns the sizes of the ranks of every module: SoRA's gates |g|, AdaLoRA's singular values |E|, or, for LoRA, which
 * has neither, ||A_i|| ||B_i||.
 */
export function moduleRanks({ layers, values }: Pick<AdapterContents, 'layers' | 'values'>): ModuleRanks[] {
  return Object.values(layers).map((layer) => ({
    path: layer.site.path,
    layer: layer.site.layer ?? 0,
    sizes: rankSizes(valuesOf(layer, values)),
  }));
}

function rankSizes({ gate, loraE, loraA, loraB }: HostTensors): number[] {
  const diagonal = gate ?? loraE;
  if (diagonal) return Array.from(floats(diagonal), Math.abs); // [r]
  if (!loraA || !loraB) return [];
  const normsB = rowNorms(loraB); // [r, out] -> r norms
  return Array.from(rowNorms(transposed(loraA)), (norm, rank) => norm * (normsB[rank] ?? 0)); // [in, r]
}
