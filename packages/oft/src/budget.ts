import { ConfigError, isNearBudget, narrowedTo, sitesForBudget, type Site } from '@peftjs/core/method';
import { rotatedFeatures, storedIn, type OftConfig } from './config.js';

/** The least share of a budget that is worth calling it fitted. */
const LEAST = 0.9;

/** Modules, and what they store with blocks of one size. */
interface Fitted {
  readonly size: number;
  readonly kept: readonly Site[];
  readonly stored: number;
}

/**
 * The configuration that stores `budget` parameters. A block size must divide what modules read, so there are few of them: where none
 * comes within 2 % over all modules, a larger one is taken in as many as come near, and else what comes nearest.
 * @throws ConfigError for `bias: 'all'`, which stores what no rotation can make up for, for a budget that one module exceeds with blocks of two, or that all modules cannot hold.
 */
export function fitBudget(sites: readonly Site[], budget: number, config: OftConfig): OftConfig {
  if (config.bias === 'all') {
    throw new ConfigError(
      "oft: bias 'all' trains modules that are not adapted: no budget is kept by rotations",
      'bias',
    );
  }
  const most = sites.reduce((sum, site) => sum + storedAt(site, rotatedFeatures(site), config), 0);
  if (most < LEAST * budget) {
    throw new ConfigError(
      `budget is ${budget}; OFT stores at most ${most} parameters in these ${sites.length} modules: ask for less, or adapt more modules`,
      'budget',
    );
  }
  const fitted = sizesOf(sites).flatMap((size) => fittedWith(sites, budget, size, config));
  const best = fitted.sort((a, b) => order(a, b, budget))[0];
  if (best) return { ...narrowedTo(best.kept, config, sites), r: 0, oftBlockSize: best.size };
  throw new ConfigError(
    `budget is ${budget}; that is less than OFT stores in one module with blocks of two features`,
    'budget',
  );
}

/** Every size of a block that divides what some module reads. */
function sizesOf(sites: readonly Site[]): number[] {
  const features = [...new Set(sites.map(rotatedFeatures))];
  const most = Math.max(...features);
  return Array.from({ length: most - 1 }, (_, index) => index + 2).filter((size) =>
    features.some((each) => each % size === 0),
  );
}

/** The modules that a block size divides, as many of them as the budget pays for; nothing where it pays for none. */
function fittedWith(sites: readonly Site[], budget: number, size: number, config: OftConfig): Fitted[] {
  const divided = sites.filter((site) => rotatedFeatures(site) % size === 0);
  const cost = (site: Site): number => storedAt(site, size, config);
  if (Math.min(...divided.map(cost)) > budget) return [];
  const kept = sitesForBudget(divided, budget, cost);
  return [{ size, kept, stored: kept.reduce((sum, site) => sum + cost(site), 0) }];
}

/** What a module stores with blocks of one size, its bias included where that is trained. */
function storedAt(site: Site, size: number, config: OftConfig): number {
  const bias = config.bias !== 'none' && site.hasBias ? site.outFeatures : 0;
  return bias + storedIn({ count: rotatedFeatures(site) / size, size }, config);
}

/** Those near the budget first, of them those of most modules; then those that store most. */
function order(a: Fitted, b: Fitted, budget: number): number {
  const [nearA, nearB] = [isNearBudget(a.stored, budget), isNearBudget(b.stored, budget)];
  if (nearA !== nearB) return nearA ? -1 : 1;
  if (nearA && a.kept.length !== b.kept.length) return b.kept.length - a.kept.length;
  return b.stored - a.stored;
}
