import { dropoutRate, integerFrom, parseOptions, targetEntries, type TargetConfig } from '@peftjs/core/method';
import * as v from 'valibot';

/** The options of LoKr, with PEFT's names and defaults. */
export interface LokrConfig extends TargetConfig {
  /** The rank of a decomposed factor. A factor is decomposed if its longer side is more than `2 r`. Default 8. */
  readonly r: number;
  /** The alpha parameter: the change is scaled by `alpha / r`. Default 8. */
  readonly alpha: number;
  /** Ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules whose alpha is not `alpha`, by the same keys. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Whether the first factor of the Kronecker product is decomposed too, not only the second. Default false. */
  readonly decomposeBoth: boolean;
  /**
   * The side of the first factor, or the nearest divisor below it; -1 chooses sides near the square root. Default -1.
   */
  readonly decomposeFactor: number;
  /** The probability that the change of an output feature is dropped in a training step. Default 0. */
  readonly rankDropout: number;
  /** Whether the outputs that `rankDropout` keeps are scaled up to make up for the dropped ones. Default false. */
  readonly rankDropoutScale: boolean;
  /** The probability that the whole change of a module is dropped in a training step. Default 0. */
  readonly moduleDropout: number;
  /** Which factor starts at zero: the first (`true`), the second (`'lycoris'`) or none (`false`). Default true. */
  readonly initWeights: boolean | 'lycoris';
}

const finite = v.pipe(v.number(), v.finite());

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  alpha: v.optional(finite, 8),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  decomposeBoth: v.optional(v.boolean(), false),
  decomposeFactor: v.optional(v.pipe(v.number(), v.integer()), -1),
  rankDropout: v.optional(dropoutRate, 0),
  rankDropoutScale: v.optional(v.boolean(), false),
  moduleDropout: v.optional(dropoutRate, 0),
  initWeights: v.optional(v.union([v.boolean(), v.literal('lycoris')]), true),
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseLokrConfig(input: unknown): LokrConfig {
  return parseOptions('lokr', entries, input);
}
