import {
  budgetEntries,
  dropoutRate,
  integerFrom,
  nonNegative,
  parseOptions,
  rankEntries,
  type RankConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/**
 * The options of ElaLoRA. Defaults are those of the released script for RTE, whose 1,950 steps the shares refer to: `r`
 * is 10, and the sum of all initial ranks is distributed; `loraAlpha` is 16.
 */
export interface ElaLoraConfig extends RankConfig {
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
  ...rankEntries({ r: 10, loraAlpha: 16 }),
  loraDropout: v.optional(dropoutRate, 0),
  movedRanks: v.optional(integerFrom(1), 4),
  candidateRanks: v.optional(integerFrom(1), 2),
  startRatio: v.optional(v.pipe(v.number(), v.minValue(0), v.ltValue(1)), 0.154),
  rankUpdateRatio: v.optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1)), 0.0256),
  beta1: v.optional(smoothing, 0.85),
  beta2: v.optional(smoothing, 0.85),
  orthRegWeight: v.optional(nonNegative, 0.1),
  restartsOptimizer: v.optional(v.boolean(), false),
  ...budgetEntries,
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseElaLoraConfig(input: unknown): ElaLoraConfig {
  return parseOptions('ela-lora', entries, input);
}
