import { fullLayer } from '../src/adapter/layers.js';
import { targetEntries } from '../src/adapter/targets.js';
import { parseOptions } from '../src/config.js';
import type { Controller, TrainPlan } from '../src/contracts/controller.js';
import type { PeftMethod } from '../src/contracts/method.js';
import { UnsupportedError } from '../src/errors.js';

/** Makes a method that trains its modules in full, with a controller of the test's choice. */
export function wholeModules(controller?: (plan: TrainPlan) => Partial<Controller>): PeftMethod {
  const idle: Controller = {
    scalars: () => ({}),
    reads: () => [],
    afterStep: () => undefined,
    holdsBudget: () => true,
    snapshot: () => ({}),
    restore: () => undefined,
  };
  return {
    name: 'whole',
    capabilities: { mergeable: false, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input) => parseOptions('whole', targetEntries, input),
    adapt: (sites, _, init) =>
      Object.fromEntries(sites.map((site) => [site.path, fullLayer(site, init.frozen(site.path), 'default')])),
    peftTypes: [],
    toFile: () => {
      throw new UnsupportedError('only trained here');
    },
    fromFile: () => {
      throw new UnsupportedError('only trained here');
    },
    ...(controller ? { controller: (_layers, _config, plan) => ({ ...idle, ...controller(plan) }) } : {}),
  };
}
