import { ConfigError, narrowTargets, type Site } from '@peftjs/core/method';
import { compactPattern, isNearBudget, selectWithinBudget, sitesForBudget } from '@peftjs/core/ranks';
import type { LokrConfig } from './config.js';
import { sidesOf, storedAt } from './shapes.js';

/** Values of `decomposeFactor` to try if the configured one stores too little. The smaller W1 is, the larger W2. */
const FACTORS = [16, 8, 4, 2, 1];

/** The smallest share of a budget that counts as fitted. */
const FILLED = 0.9;

/** A configuration and its size. */
interface Fitted {
  /** The configuration. */
  readonly config: LokrConfig;
  /** The number of parameters that it stores. */
  readonly stored: number;
}

/**
 * Returns the configuration that stores `budget` parameters: one rank for all modules, and one more for some. If even
 * whole factors store less than the budget, `decomposeFactor` is lowered, which makes W2 larger. If rank 1 everywhere
 * stores more, fewer modules are adapted.
 * @throws ConfigError for a budget that one module exceeds at rank 1, or that all modules cannot fill.
 */
export function fitBudget(sites: readonly Site[], budget: number, config: LokrConfig): LokrConfig {
  const { decomposeFactor } = config;
  const lower = FACTORS.filter((factor) => decomposeFactor === -1 || factor < decomposeFactor);
  let best: Fitted | undefined;
  for (const factor of [decomposeFactor, ...lower]) {
    const fitted = fittedWith(sites, budget, { ...config, decomposeFactor: factor });
    if (!best || fitted.stored > best.stored) best = fitted;
    if (isNearBudget(best.stored, budget)) return best.config;
  }
  if (best && best.stored >= FILLED * budget) return best.config;
  throw new ConfigError(
    `budget is ${budget}; LoKr stores at most ${best?.stored ?? 0} parameters in these ${sites.length} modules: lower it or adapt more modules`,
    'budget',
  );
}

/** Returns the largest configuration within the budget that keeps `decomposeFactor`. */
function fittedWith(sites: readonly Site[], budget: number, config: LokrConfig): Fitted {
  const cost = (site: Site, r: number): number => storedAt(site, r, config);
  const kept = sitesForBudget(sites, budget, (site) => cost(site, 1));
  const total = (r: number): number => kept.reduce((sum, site) => sum + cost(site, r), 0);
  let [r, stored] = [1, total(1)];
  for (let next = 2; next <= largestRank(kept, config); next++) {
    const nextStored = total(next);
    if (nextStored <= budget && nextStored > stored) [r, stored] = [next, nextStored];
  }
  const raised = kept
    .map((site) => ({ path: site.path, cost: cost(site, r + 1) - cost(site, r), value: 1 }))
    .filter((item) => item.cost > 0);
  const above = selectWithinBudget(raised, Math.max(0, budget - stored));
  const ranks = Object.fromEntries(
    kept.map(({ path }) => [path, above.some((item) => item.path === path) ? r + 1 : r]),
  );
  return {
    config: { ...narrowTargets(kept, config, sites), r, rankPattern: compactPattern(ranks, r) },
    stored: above.reduce((sum, item) => sum + item.cost, stored),
  };
}

/** Returns the rank from which on all factors are whole. */
function largestRank(sites: readonly Site[], config: LokrConfig): number {
  const sides = sites.flatMap((site) => Object.values(sidesOf(site, config)));
  return Math.ceil(Math.max(...sides) / 2);
}
