import { finite, integerFrom, nonNegative } from '@peftjs/core/method';
import { budgetEntries, type RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

/** The initial log sigma^2 of the released code. */
export const LOG_SIGMA2 = -8;

/** The options that only BayesLoRA has, by the released code's names where it has them, and with its defaults. */
export const bayesLoraOptions = {
  /** kappa, the weight of the KL divergence, which is summed over all entries of A and B. Default 1e-6. */
  klScale: v.optional(nonNegative, 1e-6),
  /** The initial log sigma^2 of every rank. Default -8. */
  initLogSigma2: v.optional(finite, LOG_SIGMA2),
  /** Ranks whose log alpha is at or above this are pruned. Default 3. */
  logAlphaThreshold: v.optional(finite, 3),
  /** The number of pruning events: event i of n comes after i / (n + 1) of the run's steps. Default 4. */
  pruneEvents: v.optional(integerFrom(0), 4),
  ...budgetEntries,
};

/** The options of BayesLoRA, without dropout. `r` is 8, `loraAlpha` 16 by default. */
export type BayesLoraConfig = RankOptions<typeof bayesLoraOptions>;
