import {
  budgetEntries,
  finite,
  integerFrom,
  nonNegative,
  parseOptions,
  rankEntries,
  type RankConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/**
 * The options of BayesLoRA, without dropout. Names follow the released code where it has them, and defaults are its own:
 * `r` is 8, `loraAlpha` 16.
 */
export interface BayesLoraConfig extends Omit<RankConfig, 'loraDropout'> {
  /** kappa, the weight of the KL divergence, which is summed over all entries of A and B. Default 1e-6. */
  readonly klScale: number;
  /** The initial log sigma^2 of every rank. Default -8. */
  readonly initLogSigma2: number;
  /** Ranks whose log alpha is at or above this are pruned. Default 3. */
  readonly logAlphaThreshold: number;
  /** The number of pruning events: event i of n comes after i / (n + 1) of the run's steps. Default 4. */
  readonly pruneEvents: number;
  /** The number of parameters stored at the end, met within 2 %. Default null: only the threshold decides. */
  readonly budget: number | null;
}

const entries = {
  ...rankEntries({ r: 8, loraAlpha: 16 }),
  klScale: v.optional(nonNegative, 1e-6),
  initLogSigma2: v.optional(finite, -8),
  logAlphaThreshold: v.optional(finite, 3),
  pruneEvents: v.optional(integerFrom(0), 4),
  ...budgetEntries,
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseBayesLoraConfig(input: unknown): BayesLoraConfig {
  return parseOptions('bayes-lora', entries, input);
}
