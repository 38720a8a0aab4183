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

/** The options of ElaLoRA. Defaults are those of the released script for RTE, whose 1,950 steps the shares refer to. */
export interface ElaLoraConfig extends TargetConfig {
  /** The initial rank of every module. Their sum is the number of ranks to distribute. Default 10. */
  readonly r: number;
  /** The alpha parameter: the change is scaled by `loraAlpha / r`, with the initial r. Default 16. */
  readonly loraAlpha: number;
  /** Initial ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules whose alpha is not `loraAlpha`, by the same keys. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** The dropout probability of each module's input, applied before A during training. Default 0. */
  readonly loraDropout: number;
  /** b, the number of ranks that move at a time, over all modules; falls during the run. Default 4. */
  readonly movedRanks: number;
  /** k, the most ranks of one module that may move at a time: its lowest scores, but never its last rank. Default 2. */
  readonly candidateRanks: number;
  /** When ranks begin to move, as a share of the run's steps, but not before the end of the warm-up. Default 0.154. */
  readonly startRatio: number;
  /** The interval between two moves, as a share of the run's steps. Default 0.0256. */
  readonly rankUpdateRatio: number;
  /** The smoothing factor of the sensitivity. Default 0.85. */
  readonly beta1: number;
  /** The smoothing factor of the uncertainty. Default 0.85. */
  readonly beta2: number;
  /** The coefficient of the orthogonality regularization. Default 0.1. */
  readonly orthRegWeight: number;
  /** Whether the optimizer restarts at every move, as in the released code; if not, it continues. Default false. */
  readonly restartsOptimizer: boolean;
  /** The number of parameters stored at the end, met within 2 %. Default null: ranks are counted. */
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

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseElaLoraConfig(input: unknown): ElaLoraConfig {
  return parseOptions('ela-lora', entries, input);
}
