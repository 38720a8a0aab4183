// Your own method that chooses ranks: every rank has a trained gate, and the ranks whose gates move the outputs least
// are removed on a schedule until a budget is met.
import { hostTensor } from '@peftjs/core';
import {
  allocatedCost,
  assertPrunable,
  budgetEntries,
  floats,
  hostZeros,
  kaimingUniform,
  parseOptions,
  pruneStep,
  rankEntries,
  rankedPaths,
  rankMethod,
  selectRanks,
  tensorAt,
  type CallableMethod,
  type RankConfig,
} from '@peftjs/core/method';

interface PruneConfig extends RankConfig {
  /** The number of parameters stored at the end. Default null: no rank is removed. */
  readonly budget: number | null;
}

const EVENTS = 3;
const entries = { ...rankEntries({ r: 8, loraAlpha: 16 }), ...budgetEntries };

/** y = x W0 + b + s ((x A) * g) B. Ranks are removed by |g|, in three equal steps from all parameters to the budget. */
export const prune: CallableMethod<PruneConfig> = rankMethod<PruneConfig>({
  name: 'prune',
  budget: 'prunes',
  parseConfig: (input) => parseOptions('prune', entries, input),
  file: { peftType: 'PRUNE', gate: '.gate' },
  start: ({ inFeatures, outFeatures }, count, _config, rng) => ({
    loraA: kaimingUniform(rng, inFeatures, count), // [in, count]
    loraB: hostZeros([count, outFeatures]),
    gate: hostTensor(new Float32Array(count).fill(1), [count]),
  }),
  train: () => ({ loraA: {}, loraB: {}, gate: { group: 'gate', decay: false } }),
  policy(layers, { budget }, plan) {
    if (budget === null) return undefined;
    assertPrunable(layers, budget, plan);
    const [cut, all] = [pruneStep(plan), allocatedCost(layers)];
    const events = [1, 2, 3].map((event) => Math.ceil((event * cut) / EVENTS));
    return {
      cuts: [cut],
      holdsFrom: cut,
      reads: (step) => (events.includes(step) ? ['gate'] : []),
      decide({ step, layers, values }) {
        const sizes = (path: string) => floats(tensorAt(values, `${path}.gate`)).map(Math.abs);
        const scores = Object.fromEntries(rankedPaths(layers).map((path) => [path, sizes(path)]));
        return { kept: selectRanks(layers, scores, all + ((budget - all) * step) / cut) };
      },
    };
  },
});
