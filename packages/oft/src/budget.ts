import { ConfigError, narrowTargets, type Site } from '@peftjs/core/method';
import { isNearBudget, sitesForBudget } from '@peftjs/core/ranks';
import { rotatedFeatures, storedIn, type OftConfig } from './config.js';

/** The smallest share of a budget that counts as fitted. */
const FILLED = 0.9;

/** A block size, and the modules to adapt with it. */
interface Fitted {
  /** The number of features in a block. */
  readonly size: number;
  /** The modules to adapt. */
  readonly kept: readonly Site[];
  /** The number of parameters that they store. */
  readonly stored: number;
}

/**
 * Returns the configuration that stores `budget` parameters. A block size must divide the number of a module's
 * features, so there are few choices. If none comes within 2 % over all modules, a larger size is used in as many
 * modules as come near the budget, or else the nearest choice.
 * @throws ConfigError for `bias: 'all'`, whose biases are stored with any block size, for a budget that one module
 * exceeds with blocks of two, or for one that all modules cannot fill.
 */
export function fitBudget(sites: readonly Site[], budget: number, config: OftConfig): OftConfig {
  if (config.bias === 'all') {
    throw new ConfigError("oft: bias 'all' trains unadapted modules, so rotations cannot meet a budget", 'bias');
  }
  const most = sites.reduce((sum, site) => sum + storedAt(site, rotatedFeatures(site), config), 0);
  if (most < FILLED * budget) {
    throw new ConfigError(
      `budget is ${budget}; OFT stores at most ${most} parameters in these ${sites.length} modules: lower it or adapt more modules`,
      'budget',
    );
  }
  const fitted = sizesOf(sites).flatMap((size) => fittedWith(sites, budget, size, config));
  const best = fitted.sort((a, b) => order(a, b, budget))[0];
  if (best) return { ...narrowTargets(best.kept, config, sites), r: 0, oftBlockSize: best.size };
  throw new ConfigError(
    `budget is ${budget}; that is less than OFT stores in one module with blocks of two features`,
    'budget',
  );
}

/** Returns all block sizes that divide the features of some module. */
function sizesOf(sites: readonly Site[]): number[] {
  const features = [...new Set(sites.map(rotatedFeatures))];
  const most = Math.max(...features);
  return Array.from({ length: most - 1 }, (_, index) => index + 2).filter((size) =>
    features.some((each) => each % size === 0),
  );
}

/** Returns as many of the modules that the block size divides as the budget pays for, or [] if it pays for none. */
function fittedWith(sites: readonly Site[], budget: number, size: number, config: OftConfig): Fitted[] {
  const divided = sites.filter((site) => rotatedFeatures(site) % size === 0);
  const cost = (site: Site): number => storedAt(site, size, config);
  if (Math.min(...divided.map(cost)) > budget) return [];
  const kept = sitesForBudget(divided, budget, cost);
  return [{ size, kept, stored: kept.reduce((sum, site) => sum + cost(site), 0) }];
}

/** Returns the parameters of a module with blocks of one size, including its bias if that is trained. */
function storedAt(site: Site, size: number, config: OftConfig): number {
  const bias = config.bias !== 'none' && site.hasBias ? site.outFeatures : 0;
  return bias + storedIn({ count: rotatedFeatures(site) / size, size }, config);
}

/** Sorts choices near the budget first, more modules before fewer; then by stored parameters, descending. */
function order(a: Fitted, b: Fitted, budget: number): number {
  const [nearA, nearB] = [isNearBudget(a.stored, budget), isNearBudget(b.stored, budget)];
  if (nearA !== nearB) return nearA ? -1 : 1;
  if (nearA && a.kept.length !== b.kept.length) return b.kept.length - a.kept.length;
  return b.stored - a.stored;
}
