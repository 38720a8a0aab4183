/* A third party's method: y = x W0 + b + (x U) V, U [in, r], V [r, out], with the ranks that a budget pays for. */
import { hostTensor } from '@peftjs/core';
import { defineMethod, parseOptions, targetEntries, tensorAt, trained } from '@peftjs/core/method';
import { rankCost, ranksForBudget } from '@peftjs/core/ranks';
import { kaimingUniform } from '@peftjs/core/linalg';
import * as tf from '@tensorflow/tfjs-core';
import * as v from 'valibot';

export const theirs = defineMethod({
  name: 'theirs',
  capabilities: { mergeable: true, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input) =>
    parseOptions('theirs', { ...targetEntries, ranks: v.optional(v.record(v.string(), v.number()), {}) }, input),
  adapt: (sites, { ranks }, { rng }) =>
    Object.fromEntries(sites.map((site) => [site.path, layer(site, ranks[site.path] ?? 1, rng.fork(site.path))])),
  peftTypes: ['THEIRS'],
  toFile: ({ config, values }) => ({ config, tensors: values }),
  fromFile: ({ config, tensors }) => ({ config, values: tensors }),
  fitBudget(sites, budget, config) {
    const { r, rankPattern } = ranksForBudget(sites, budget);
    return { ...config, ranks: { ...Object.fromEntries(sites.map(({ path }) => [path, r])), ...rankPattern } };
  },
});

function layer(site, r, rng) {
  const { inFeatures, outFeatures } = site;
  const zeros = hostTensor(new Float32Array(r * outFeatures), [r, outFeatures]);
  return {
    site,
    params: { u: trained(kaimingUniform(rng, inFeatures, r)), v: trained(zeros) },
    forward: (x, p, at) => tf.add(at.base(), tf.matMul(tf.matMul(x, tensorAt(p, 'u')), tensorAt(p, 'v'))),
    toLora: (values) => ({ loraA: tensorAt(values, 'u'), loraB: tensorAt(values, 'v'), scaling: 1 }),
    storedParameters: () => r * rankCost(site),
    rank: () => r,
  };
}
