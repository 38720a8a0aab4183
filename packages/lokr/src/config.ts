import { dropoutRate, integerFrom, parseOptions, targetEntries, type TargetConfig } from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of LoKr, in PEFT's names and with PEFT's defaults. */
export interface LokrConfig extends TargetConfig {
  /** Rank of a factor that is decomposed: one whose longer side is more than `2 r`. Default 8. */
  readonly r: number;
  /** The change is scaled by `alpha / r`. Default 8. */
  readonly alpha: number;
  /** Ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Whether the first factor is decomposed too, not the second one alone. Default false. */
  readonly decomposeBoth: boolean;
  /** The side of the first factor, or the nearest divisor below it; -1 for sides near the square root. Default -1. */
  readonly decomposeFactor: number;
  /** Share of a module's outputs whose change is left out of a training step. Default 0. */
  readonly rankDropout: number;
  /** Whether the outputs that `rankDropout` leaves are scaled up for those that it does not. Default false. */
  readonly rankDropoutScale: boolean;
  /** Share of training steps that a module's change is left out of as a whole. Default 0. */
  readonly moduleDropout: number;
  /** Which factor starts at zero: the first (`true`), the second (`'lycoris'`), none (`false`). Default true. */
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

/** Fills in LoKr's defaults. @throws ConfigError naming the field. */
export function parseLokrConfig(input: unknown): LokrConfig {
  return parseOptions('lokr', entries, input);
}
