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

/** Options of BayesLoRA, in the released code's names where it has them, with the defaults of its GLUE runs. */
export interface BayesLoraConfig extends TargetConfig {
  /** The rank that every module starts with. Default 8. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`, whatever ranks remain. Default 16. */
  readonly loraAlpha: number;
  /** Starting ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Weight of the KL divergence, a sum over all entries of A and B. Default 1e-6. */
  readonly klScale: number;
  /** log sigma^2 that every rank starts with. Default -8. */
  readonly initLogSigma2: number;
  /** Ranks with log alpha of at least this are pruned. Default 3. */
  readonly logAlphaThreshold: number;
  /** How often ranks are pruned: event i of n comes after i / (n + 1) of the run's steps. Default 4. */
  readonly pruneEvents: number;
  /** Parameters to store in the end, within 2 %. Default null: the threshold alone decides. */
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

/** Fills in BayesLoRA's defaults. @throws ConfigError naming the field. */
export function parseBayesLoraConfig(input: unknown): BayesLoraConfig {
  return parseOptions('bayes-lora', entries, input);
}
