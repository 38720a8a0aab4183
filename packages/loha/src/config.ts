import { dropoutRate, integerFrom, parseOptions, targetEntries, type TargetConfig } from '@peftjs/core/method';
import * as v from 'valibot';

/** The options of LoHa, with PEFT's names and defaults. */
export interface LohaConfig extends TargetConfig {
  /** The rank of each of the two products. Their elementwise product has a rank of at most r * r. Default 8. */
  readonly r: number;
  /** The alpha parameter: the change is scaled by `alpha / r`. Default 8. */
  readonly alpha: number;
  /** Ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules whose alpha is not `alpha`, by the same keys. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** The probability that the change of an output feature is dropped in a training step. Default 0. */
  readonly rankDropout: number;
  /** The probability that the whole change of a module is dropped in a training step. Default 0. */
  readonly moduleDropout: number;
  /** Whether the change starts at zero; if not, it starts at random. Default true. */
  readonly initWeights: boolean;
}

const finite = v.pipe(v.number(), v.finite());

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  alpha: v.optional(finite, 8),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  rankDropout: v.optional(dropoutRate, 0),
  moduleDropout: v.optional(dropoutRate, 0),
  initWeights: v.optional(v.boolean(), true),
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseLohaConfig(input: unknown): LohaConfig {
  return parseOptions('loha', entries, input);
}
