import {
  ConfigError,
  defineMethod,
  patternValue,
  ranksForBudget,
  type CallableMethod,
  type Site,
  type SiteRole,
} from '@peftjs/core';
import { placed, type PlacementRule } from '../placement.js';
import { parseBottleneckConfig, type BottleneckConfig } from './config.js';
import { bottleneckFile, readBottleneckFile } from './file.js';
import { bottleneckLayer, fixedCost, unitCost } from './layer.js';

/** The method that puts a bottleneck adapter after the modules with one of these roles. */
export function bottleneckMethod(name: string, roles: readonly SiteRole[]): CallableMethod<BottleneckConfig> {
  const rule: PlacementRule = {
    picks: ({ role }) => roles.includes(role),
    words: `with the role ${roles.map((role) => `'${role}'`).join(' or ')}`,
  };
  const peftType = name.toUpperCase();
  return defineMethod<BottleneckConfig>({
    name,
    capabilities: { mergeable: false, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input) => parseBottleneckConfig(name, input),
    fitBudget: (sites, budget, config) => ({ ...config, ...widthsForBudget(placed(sites, config, rule), budget) }),
    adapt: (sites, config, { rng }) =>
      Object.fromEntries(
        placed(sites, config, rule).map((site) => {
          const bottleneck = patternValue(config.bottleneckPattern, site.path) ?? config.bottleneck;
          return [site.path, bottleneckLayer(site, { ...config, bottleneck }, rng.fork(site.path))];
        }),
      ),
    peftTypes: [peftType],
    toFile: (adapter) => bottleneckFile(peftType, adapter),
    fromFile: readBottleneckFile,
  });
}

/** The widths that store as much of a budget as possible and no more. @throws ConfigError when width 1 is too much. */
function widthsForBudget(
  sites: readonly Site[],
  budget: number,
): Pick<BottleneckConfig, 'bottleneck' | 'bottleneckPattern'> {
  const fixed = sites.reduce((sum, site) => sum + fixedCost(site), 0);
  const least = sites.reduce((sum, site) => sum + unitCost(site), fixed);
  if (!(budget >= least)) {
    throw new ConfigError(
      `budget is ${budget}; adapters of width 1 after ${sites.length} modules store ${least} parameters, ask for at least that or target fewer modules`,
      'budget',
    );
  }
  const { r, rankPattern } = ranksForBudget(sites, budget - fixed, unitCost);
  return { bottleneck: r, bottleneckPattern: rankPattern };
}
