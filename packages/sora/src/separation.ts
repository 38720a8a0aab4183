import { hostTensor } from '@peftjs/core';
import {
  floats,
  tensorAt,
  tensorsAt,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensor,
  type HostTensors,
} from '@peftjs/core/method';
import { valuesOf } from '@peftjs/core/model';
import { rankedPaths } from '@peftjs/core/ranks';
import {
  foldDiagonal,
  nonZeroIndices,
  rowNorms,
  scaleRows,
  singularFactors,
  transposed,
  type SingularFactors,
} from '@peftjs/core/linalg';
import { relativeScalings } from './gates.js';

/*
 * Separation (ours). Training does not determine single ranks: A R and R^-1 diag(g) B are the same change of the weight
 * for every invertible R. A change of rank two is spread over all ranks, and a threshold would erode it piece by piece.
 * Therefore every change is rewritten in its singular basis once, before the first threshold. In that basis the best
 * approximation of rank n is the first n ranks (Eckart and Young, 1936):
 *
 *   s A diag(g) B = U S V^T     A' = c / sqrt(s) U [in, r]     g' = S / c^2 [r]     B' = c / sqrt(s) V^T [r, out]
 *
 * s is the module's scaling in units of the first module's. c^2 is the root mean square of the singular values of all
 * modules. It is the same for all modules, so that gates can be compared by how much their ranks change the weight. The
 * root mean square of the gates is then 1, as for gates that start from 1.
 */

/**
 * Returns the changes of all modules with live ranks, rewritten in their singular bases: `<path>.gate` [r],
 * `<path>.loraA` [in, r] and `<path>.loraB` [r, out]. Pruned ranks keep their values. Returns {} if no weight is
 * changed.
 * @param values the gates, A and B of all layers
 * @throws ShapeError when a tensor is missing.
 */
export function separated(layers: AdapterLayers, values: HostTensors): HostTensors {
  const scalings = relativeScalings(layers);
  const modules = rankedPaths(layers)
    .map((path) => moduleOf(tensorAt(layers, path), values, scalings[path] as number))
    .filter(({ live, scaling }) => live.length > 0 && scaling !== 0)
    .map((module) => ({ ...module, singular: singularFactors(foldDiagonal(module, module.gate)) }));
  const singularValues = modules.flatMap(({ singular }) => singular.singularValues);
  const meanSquare = singularValues.reduce((sum, value) => sum + value ** 2, 0) / singularValues.length;
  if (!(meanSquare > 0)) return {};
  const c = meanSquare ** 0.25;
  return Object.fromEntries(modules.flatMap((module) => Object.entries(inSingularBasis(module, module.singular, c))));
}

interface Module extends Record<'gate' | 'loraA' | 'loraB', HostTensor> {
  readonly path: string;
  /** s */
  readonly scaling: number;
  /** The ranks with nonzero gates. */
  readonly live: readonly number[];
}

function moduleOf(layer: AdapterLayer, values: HostTensors, scaling: number): Module {
  const own = tensorsAt(valuesOf(layer, values), 'gate', 'loraA', 'loraB');
  return { ...own, path: layer.site.path, scaling, live: nonZeroIndices(own.gate) };
}

function inSingularBasis(
  { path, scaling, gate, loraA, loraB, live }: Module,
  singular: SingularFactors,
  c: number,
): HostTensors {
  const norm = c / Math.sqrt(scaling);
  const places = live.slice(0, singular.singularValues.length); // there are at most min(in, out) singular values
  const gates = new Float32Array(gate.data.length);
  places.forEach((place, index) => (gates[place] = (singular.singularValues[index] as number) / c ** 2));
  const columns = withRows(transposed(loraA), places, transposed(singular.loraA), norm); // [r, in]
  return {
    [`${path}.gate`]: hostTensor(gates, gate.shape),
    [`${path}.loraA`]: transposed(columns), // [in, r]
    [`${path}.loraB`]: withRows(loraB, places, singular.loraB, norm),
  };
}

/** Returns the matrix with the rows at `places` replaced by `rows`, scaled to a norm; zero rows stay zero. */
function withRows(matrix: HostTensor, places: readonly number[], rows: HostTensor, norm: number): HostTensor {
  const width = matrix.shape[1] as number;
  const unit = floats(
    scaleRows(
      rows,
      rowNorms(rows).map((own) => (own > 0 ? norm / own : 0)),
    ),
  );
  const changed = floats(matrix).slice();
  places.forEach((place, index) => changed.set(unit.subarray(index * width, (index + 1) * width), place * width));
  return hostTensor(changed, matrix.shape);
}
