import { hostZeros, positive, type CallableMethod } from '@peftjs/core/method';
import { dropoutEntries, pruneStep, rankMethod, truncateToBudget, type RankOptions } from '@peftjs/core/ranks';
import { kaimingUniform } from '@peftjs/core/linalg';
import * as v from 'valibot';

const options = {
  ...dropoutEntries,
  /** The number of parameters stored from the final phase on, met within 1 %; null never cuts. Default null. */
  budget: v.nullish(positive, null),
};

/**
 * The options of truncated LoRA: those of plain LoRA, with `r`, 8 by default, as the rank before the cut, and a budget.
 * `loraAlpha` is 8 by default.
 */
export type TruncatedLoraConfig = RankOptions<typeof options>;

/**
 * A control for methods that choose ranks during training: a LoRA of high rank that is cut once to a budget, by the
 * singular values of its changes, and then trained further in the final phase. The result is a LoRA whose ranks differ
 * between modules.
 *
 * @example attach(model, truncatedLora({ r: 12, budget: 60_000 }))
 */
export const truncatedLora: CallableMethod<TruncatedLoraConfig> = rankMethod<TruncatedLoraConfig>({
  name: 'truncated-lora',
  budget: 'prunes',
  prunesTrained: true,
  defaults: { r: 8, loraAlpha: 8 },
  options,
  start: ({ inFeatures, outFeatures }, r, _config, rng) => ({
    loraA: kaimingUniform(rng, inFeatures, r), // [in, r]
    loraB: hostZeros([r, outFeatures]),
  }),
  policy({ budget }, plan) {
    if (budget === null) return undefined;
    const cut = pruneStep(plan);
    return {
      cuts: [cut],
      reads: (step) => (step === cut ? ['loraA', 'loraB'] : []),
      decide: ({ layers, values }) => ({ resized: truncateToBudget(layers, values, budget) }),
    };
  },
});
