import { integerFrom, keptShare, nonNegative, positiveShare } from '@peftjs/core/method';
import { budgetEntries, dropoutEntries, type RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

/** The options that only ElaLoRA has. Shares refer to the 1,950 steps of the released script for RTE. */
export const elaLoraOptions = {
  ...dropoutEntries,
  /** b, the number of ranks that move at a time, over all modules; falls during the run. Default 4. */
  movedRanks: v.optional(integerFrom(1), 4),
  /** k, the most ranks of one module that may move at a time: its lowest scores, but never its last rank. Default 2. */
  candidateRanks: v.optional(integerFrom(1), 2),
  /** When ranks begin to move, as a share of the run's steps, but not before the end of the warm-up. Default 0.154. */
  startRatio: v.optional(keptShare, 0.154),
  /** The interval between two moves, as a share of the run's steps. Default 0.0256. */
  rankUpdateRatio: v.optional(positiveShare, 0.0256),
  /** The smoothing factor of the sensitivity. Default 0.85. */
  beta1: v.optional(keptShare, 0.85),
  /** The smoothing factor of the uncertainty. Default 0.85. */
  beta2: v.optional(keptShare, 0.85),
  /** The coefficient of the orthogonality regularization. Default 0.1. */
  orthRegWeight: v.optional(nonNegative, 0.1),
  /** Whether the optimizer restarts at every move, as in the released code; if not, it continues. Default false. */
  restartsOptimizer: v.optional(v.boolean(), false),
  ...budgetEntries,
};

/**
 * The options of ElaLoRA. Defaults are those of the released script: `r` is 10, and the sum of all initial ranks is
 * distributed; `loraAlpha` is 16.
 */
export type ElaLoraConfig = RankOptions<typeof elaLoraOptions>;
