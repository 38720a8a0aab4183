import { dropoutRate, integerFrom, parseOptions, targetEntries, type TargetConfig } from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of LoHa, in PEFT's names and with PEFT's defaults. */
export interface LohaConfig extends TargetConfig {
  /** Rank of each of the two products; their elementwise product has rank r * r at most. Default 8. */
  readonly r: number;
  /** The change is scaled by `alpha / r`. Default 8. */
  readonly alpha: number;
  /** Ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Share of a module's outputs whose change is left out of a training step. Default 0. */
  readonly rankDropout: number;
  /** Share of training steps that a module's change is left out of as a whole. Default 0. */
  readonly moduleDropout: number;
  /** Whether the change starts at zero. Default true. */
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

/** Fills in LoHa's defaults. @throws ConfigError naming the field. */
export function parseLohaConfig(input: unknown): LohaConfig {
  return parseOptions('loha', entries, input);
}
