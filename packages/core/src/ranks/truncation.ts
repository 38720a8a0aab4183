import { valuesOf } from '../adapter/peft-model.js';
import type { ResizedLayer } from '../contracts/controller.js';
import type { AdapterLayer, AdapterLayers, LoraFactors } from '../contracts/layer.js';
import { UnsupportedError } from '../errors.js';
import type { CarryKind } from '../optimizers/optimizer.js';
import { mapTensor, mapValues, tensorAt, type HostTensor, type HostTensors } from '../tensors.js';
import { keepRanks, rankedPaths } from './changes.js';
import { selectRanks } from './competition.js';
import { pickColumns, pickRows, matrixProduct, singularFactors, type SingularFactors } from './factors.js';

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

/** Returns the factors of a layer's change. @throws UnsupportedError when it is not a low-rank change of its weight. */
export function factorsOf(layer: AdapterLayer, values: HostTensors): LoraFactors {
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
  const weights = kind === 'gradient' ? turn : mapTensor(turn, (value) => value * value);
  return isA ? matrixProduct(tensor, weights) : matrixProduct(weights, tensor); // [in, r] [r, kept], or [kept, r] [r, out]
}
