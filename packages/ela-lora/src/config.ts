import {
  dropoutRate,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of ElaLoRA. Defaults are those of the released script for RTE, its schedule in shares of the 1,950 steps there. */
export interface ElaLoraConfig extends TargetConfig {
  /** The rank that every module starts with; all of them together are the ranks that move. Default 10. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`, whatever ranks a module comes to have. Default 16. */
  readonly loraAlpha: number;
  /** Starting ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Share of a module's input that A does not see while training. Default 0. */
  readonly loraDropout: number;
  /** b: ranks that move at once, of all modules together; later fewer. Default 4. */
  readonly movedRanks: number;
  /** k: ranks of a module that may move at once, those of its lowest scores; its last one never does. Default 2. */
  readonly candidateRanks: number;
  /** Share of the run after which ranks begin to move, or the end of the warm-up where that is later. Default 0.154. */
  readonly startRatio: number;
  /** Share of the run's steps from one move to the next. Default 0.0256. */
  readonly rankUpdateRatio: number;
  /** Smoothing of the sensitivity. Default 0.85. */
  readonly beta1: number;
  /** Smoothing of its uncertainty. Default 0.85. */
  readonly beta2: number;
  /** Weight of the orthogonality term. Default 0.1. */
  readonly orthRegWeight: number;
  /** Whether the optimizer begins anew at every move, as the released code's does; else ranks that stay keep their moments. Default false. */
  readonly restartsOptimizer: boolean;
  /** Parameters to store in the end, within 2 %. Default null: ranks are counted. */
  readonly budget: number | null;
}

const smoothing = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 10),
  loraAlpha: v.optional(positive, 16),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  loraDropout: v.optional(dropoutRate, 0),
  movedRanks: v.optional(integerFrom(1), 4),
  candidateRanks: v.optional(integerFrom(1), 2),
  startRatio: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.154),
  rankUpdateRatio: v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1)), 0.0256),
  beta1: v.optional(smoothing, 0.85),
  beta2: v.optional(smoothing, 0.85),
  orthRegWeight: v.optional(nonNegative, 0.1),
  restartsOptimizer: v.optional(v.boolean(), false),
  budget: v.nullish(positive, null),
};

/** Fills in the defaults of ElaLoRA. @throws ConfigError naming the field. */
export function parseElaLoraConfig(input: unknown): ElaLoraConfig {
  return parseOptions('ela-lora', entries, input);
}
