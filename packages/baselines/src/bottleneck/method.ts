import { defineMethod, matches, patternValue, type CallableMethod, type SiteRole } from '@peftjs/core';
import { placed, type PlacementRule } from '../placement.js';
import { fittedToBudget } from './budget.js';
import { parseBottleneckConfig, type BottleneckConfig } from './config.js';
import { bottleneckFile, readBottleneckFile } from './file.js';
import { bottleneckLayer } from './layer.js';

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
    fitBudget: (sites, budget, config) => fittedToBudget(placed(sites, config, rule), budget, config),
    adapt: (sites, config, { rng }) =>
      Object.fromEntries(
        placed(sites, config, rule).map((site) => {
          const bottleneck = patternValue(config.bottleneckPattern, site.path) ?? config.bottleneck;
          const hasUpBias = !matches(site, config.withoutBias);
          return [site.path, bottleneckLayer(site, { ...config, bottleneck, hasUpBias }, rng.fork(site.path))];
        }),
      ),
    peftTypes: [peftType],
    toFile: (adapter) => bottleneckFile(peftType, adapter),
    fromFile: readBottleneckFile,
  });
}
