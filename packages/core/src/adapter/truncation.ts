import { UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, LoraFactors, ResizedLayer } from '../contracts/method.js';
import type { CarriedKind } from '../optimizers/optimizer.js';
import { mapValues } from '../records.js';
import { floats, hostTensor, tensorAt, type HostTensor, type HostTensors } from '../tensors.js';
import { keepRanks, rankedPaths } from './compaction.js';
import { pickColumns, pickRows } from './factors.js';
import { product, singularFactors, type SingularFactors } from './low-rank.js';
import { valuesOf } from './peft-model.js';
import { selectRanks } from './rank-selection.js';

/*
 * Truncation of low-rank layers in the middle of a run. Of dW = U S V^T every module keeps its first singular values, so many
 * that over all modules the sum of their squares is as large as the budget allows: no other change that stores as little is as
 * near to all dW together (Eckart and Young, 1936, module by module).
 *
 *   A' = U_k S_k^1/2   B' = S_k^1/2 V_k^T         low-rank.ts
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
