import { sizeOf, type Site } from '@peftjs/core/method';
import type { LokrConfig } from './config.js';

/** The sides of W1 `[m, l]` and of W2 `[n, k]` of a weight `[m n, l k]`. */
export interface Sides {
  readonly m: number;
  readonly l: number;
  readonly n: number;
  readonly k: number;
}

/** The sides that a configuration gives a module. */
export function sidesOf(
  { inFeatures, outFeatures }: Site,
  { decomposeFactor }: Pick<LokrConfig, 'decomposeFactor'>,
): Sides {
  const [m, n] = factorization(inFeatures, decomposeFactor);
  const [l, k] = factorization(outFeatures, decomposeFactor);
  return { m, l, n, k };
}

/**
 * A number as a product of two, as in PEFT: with a factor that divides it, that factor first; else the pair nearest to the square root
 * whose smaller number is at most `factor`, the smaller one first. -1 sets no bound.
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

/** Shapes of a module's tensors at rank r: a factor whose longer side is at most 2 r is whole, another one the product of two. */
export function shapesOf(site: Site, r: number, config: Pick<LokrConfig, 'decomposeFactor' | 'decomposeBoth'>): Shapes {
  const { m, l, n, k } = sidesOf(site, config);
  const isWhole = (a: number, b: number): boolean => r >= Math.max(a, b) / 2;
  return {
    ...(!config.decomposeBoth || isWhole(m, l) ? { lokrW1: [m, l] } : { lokrW1A: [r, l], lokrW1B: [m, r] }),
    ...(isWhole(n, k) ? { lokrW2: [n, k] } : { lokrW2A: [r, k], lokrW2B: [n, r] }),
  };
}

/** The tensors that a layer may have, two to four of them. */
export type TensorName = 'lokrW1' | 'lokrW1A' | 'lokrW1B' | 'lokrW2' | 'lokrW2A' | 'lokrW2B';

/** Shapes by tensor. */
export type Shapes = Partial<Record<TensorName, [rows: number, columns: number]>>;

/** The numbers that a module stores. */
export function storedAt(site: Site, r: number, config: Pick<LokrConfig, 'decomposeFactor' | 'decomposeBoth'>): number {
  return Object.values(shapesOf(site, r, config)).reduce((sum, shape) => sum + sizeOf(shape), 0);
}
