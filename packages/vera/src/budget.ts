import { narrowedTo, sitesForBudget, type Site } from '@peftjs/core';
import type { VeraConfig } from './config.js';
import { storedAt } from './layer.js';

/**
 * The configuration that stores, and trains, at most `budget` parameters: b takes an output each, and what is left is r for
 * every module. Where b alone is too much, fewer modules.
 * @throws ConfigError when not even one module fits.
 */
export function fittedToBudget(sites: readonly Site[], budget: number, config: VeraConfig): VeraConfig {
  const kept = sitesForBudget(sites, budget, (site) => storedAt(site, 1));
  const withoutRanks = kept.reduce((sum, site) => sum + storedAt(site, 0), 0);
  const r = Math.max(1, Math.floor((budget - withoutRanks) / kept.length));
  return { ...narrowedTo(kept, config, sites), r };
}
