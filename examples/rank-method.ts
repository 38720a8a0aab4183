// Your own method that chooses ranks: every rank has a trained gate, and the ranks whose gates move the outputs least
// are removed on a schedule until a budget is met.
import { hostFilled, hostZeros, mapValues, type CallableMethod } from '@peftjs/core/method';
import { allocatedCost, budgetEntries, pruneStep, rankMethod, selectRanks, type RankOptions } from '@peftjs/core/ranks';
import { kaimingUniform } from '@peftjs/core/linalg';

type PruneConfig = RankOptions<typeof budgetEntries>;

const EVENTS = 3;

/** y = x W0 + b + s ((x A) * g) B. Ranks are removed by |g|, in three equal steps from all parameters to the budget. */
export const prune: CallableMethod<PruneConfig> = rankMethod<PruneConfig>({
  name: 'prune',
  budget: 'prunes',
  defaults: { r: 8, loraAlpha: 16 },
  options: budgetEntries,
  file: { peftType: 'PRUNE', gate: '.gate' },
  start: ({ inFeatures, outFeatures }, count, _config, rng) => ({
    loraA: kaimingUniform(rng, inFeatures, count), // [in, count]
    loraB: hostZeros([count, outFeatures]),
    gate: hostFilled([count], 1),
  }),
  train: () => ({ loraA: {}, loraB: {}, gate: { group: 'gate', decay: false } }),
  policy({ budget }, plan, layers) {
    if (budget === null) return undefined;
    const [cut, all] = [pruneStep(plan), allocatedCost(layers)];
    const events = [1, 2, 3].map((event) => Math.ceil((event * cut) / EVENTS));
    return {
      cuts: [cut],
      reads: (step) => (events.includes(step) ? ['gate'] : []),
      decide({ step, layers, of }) {
        const sizes = mapValues(of('gate'), (gate) => gate.map(Math.abs));
        return { kept: selectRanks(layers, sizes, all + ((budget - all) * step) / cut) };
      },
    };
  },
});
