import type { Rng, Site } from '@peftjs/core/method';

/** Ranks by module path. */
export type Ranks = Readonly<Record<string, number>>;

/** The pattern of a teacher's ranks over its modules. */
export type Allocation = 'early' | 'late' | 'one-type' | 'uneven';
/** All patterns. */
export const ALLOCATIONS: readonly Allocation[] = ['early', 'late', 'one-type', 'uneven'];

/**
 * Returns ranks with a mean of one: two in every module of half of the layers, or only in the values, or from 6 to 0 in
 * random order.
 */
export function trueRanks(sites: readonly Site[], allocation: Allocation, rng: Rng): Ranks {
  const layers = 1 + Math.max(...sites.map(({ layer = 0 }) => layer));
  const drawn = rng.permutation(sites.length);
  const rankOf: Record<Allocation, (site: Site, index: number) => number> = {
    early: ({ layer = 0 }) => (2 * layer < layers ? 2 : 0),
    late: ({ layer = 0 }) => (2 * layer < layers ? 0 : 2),
    'one-type': ({ role }) => (role === 'attention.value' ? sites.length / layers : 0),
    uneven: (_, index) => UNEVEN[(drawn[index] as number) % 12] ?? 0,
  };
  return Object.fromEntries(sites.map((site, index) => [site.path, rankOf[allocation](site, index)]));
}

/** The ranks of 4 of every 12 modules; the others have none. */
const UNEVEN: readonly number[] = [6, 3, 2, 1];
