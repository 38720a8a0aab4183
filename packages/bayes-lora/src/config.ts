import {
  finite,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** The options of BayesLoRA. Names follow the released code where it has them, and defaults are its own. */
export interface BayesLoraConfig extends TargetConfig {
  /** The initial rank of every module. Default 8. */
  readonly r: number;
  /** The alpha parameter: the change is scaled by `loraAlpha / r`, with the initial r. Default 16. */
  readonly loraAlpha: number;
  /** Initial ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules whose alpha is not `loraAlpha`, by the same keys. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
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
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 16),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  klScale: v.optional(nonNegative, 1e-6),
  initLogSigma2: v.optional(finite, -8),
  logAlphaThreshold: v.optional(finite, 3),
  pruneEvents: v.optional(integerFrom(0), 4),
  budget: v.nullish(positive, null),
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseBayesLoraConfig(input: unknown): BayesLoraConfig {
  return parseOptions('bayes-lora', entries, input);
}
