import { sizeOf, type Site } from '@peftjs/core/method';
import type { LokrConfig } from './config.js';

/** The sides of W1 [m, l] and W2 [n, k] of a weight [in, out] = [m n, l k]. */
export type Sides = Readonly<Record<'m' | 'l' | 'n' | 'k', number>>;

/** Returns the sides of a module's factors. */
export function sidesOf(
  { inFeatures, outFeatures }: Site,
  { decomposeFactor }: Pick<LokrConfig, 'decomposeFactor'>,
): Sides {
  const [m, n] = factorization(inFeatures, decomposeFactor);
  const [l, k] = factorization(outFeatures, decomposeFactor);
  return { m, l, n, k };
}

/**
 * Writes a number as a product of two, as PEFT does. If `factor` divides it, `factor` comes first. Otherwise it is the
 * pair nearest to the square root whose smaller number is at most `factor`, the smaller one first. -1 sets no limit.
 */
export function factorization(dimension: number, factor: number): [first: number, second: number] {
  if (factor > 0 && dimension % factor === 0) return [factor, dimension / factor];
  const most = factor === -1 ? dimension : factor;
  let [m, n] = [1, dimension];
  while (m < n) {
    let next = m + 1;
    while (dimension % next !== 0) next++;
    const other = dimension / next;
    if (next + other > m + n || next > most) break;
    [m, n] = [next, other];
  }
  return m > n ? [n, m] : [m, n];
}

/** Returns the shapes of a module's tensors at rank r. A factor is whole if its longer side is at most 2 r. */
export function shapesOf(site: Site, r: number, config: Pick<LokrConfig, 'decomposeFactor' | 'decomposeBoth'>): Shapes {
  const { m, l, n, k } = sidesOf(site, config);
  const isWhole = (a: number, b: number): boolean => r >= Math.max(a, b) / 2;
  return {
    ...(!config.decomposeBoth || isWhole(m, l) ? { lokrW1: [m, l] } : { lokrW1A: [r, l], lokrW1B: [m, r] }),
    ...(isWhole(n, k) ? { lokrW2: [n, k] } : { lokrW2A: [r, k], lokrW2B: [n, r] }),
  };
}

/** The names of a layer's tensors; a layer has two to four of them. */
export type TensorName = 'lokrW1' | 'lokrW1A' | 'lokrW1B' | 'lokrW2' | 'lokrW2A' | 'lokrW2B';

/** Shapes by tensor name. */
export type Shapes = Partial<Record<TensorName, [rows: number, columns: number]>>;

/** Returns the number of parameters that a module stores at rank r. */
export function storedAt(site: Site, r: number, config: Pick<LokrConfig, 'decomposeFactor' | 'decomposeBoth'>): number {
  return Object.values(shapesOf(site, r, config)).reduce((sum, shape) => sum + sizeOf(shape), 0);
}
