import { integerFrom, positiveShare } from '@peftjs/core/method';
import { budgetEntries, dropoutEntries, type RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

/** The options that only ALoRA has. */
export const aloraOptions = {
  ...dropoutEntries,
  /** N_A, the number of rounds in which ranks move; 0 moves none. Default 8. */
  rounds: v.optional(integerFrom(0), 8),
  /** When the first round comes, as a share of the run's steps. Default 0.1: the paper's K1, 1 epoch of 10. */
  firstRound: v.optional(positiveShare, 0.1),
  /**
   * The interval between two rounds, as a share of the run's steps. Default 0.025: the paper's K2, 0.25 epochs of 10.
   */
  roundInterval: v.optional(positiveShare, 0.025),
  /** n_A, the share of the initial ranks that move in one round. Default 1/8. */
  movedShare: v.optional(positiveShare, 1 / 8),
  /** The number of training rows that are held out to score ranks on. Default 32. */
  probeRows: v.optional(integerFrom(1), 32),
  ...budgetEntries,
};

/**
 * The options of ALoRA. The sum of the initial ranks (`r`, default 8) is distributed; with a `budget`, ranks move by
 * the parameters that they store. `loraAlpha` is 8 by default.
 */
export type AloraConfig = RankOptions<typeof aloraOptions>;
