import type { Rng, Site } from '@peftjs/core/method';

/** Ranks by module path. */
export type Ranks = Readonly<Record<string, number>>;

/** Where a teacher's ranks are. */
export type Allocation = 'early' | 'late' | 'one-type' | 'uneven';
export const ALLOCATIONS: readonly Allocation[] = ['early', 'late', 'one-type', 'uneven'];

/** Ranks that are on average one: half of the layers with two in every module, or the values alone, or ranks from 6 to 0 drawn. */
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

/** The ranks of 12 modules; the others have none. */
const UNEVEN: readonly number[] = [6, 3, 2, 1];
