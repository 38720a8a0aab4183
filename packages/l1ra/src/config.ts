import { nonNegative, positive, positiveShare } from '@peftjs/core/method';
import { budgetEntries, dropoutEntries, type RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

/** The options that only L1RA has, with the released code's names. */
export const l1raOptions = {
  ...dropoutEntries,
  /** lambda: every step shrinks each gate by `etaC * l1raLambda`. Default 1e-3. */
  l1raLambda: v.optional(nonNegative, 1e-3),
  /** eta_c, the gates' constant learning rate. Default 2e-2. */
  etaC: v.optional(positive, 2e-2),
  /** The interval between two reassignments of ranks, as a share of the run's steps. Default 0.1. */
  rankUpdateRatio: v.optional(positiveShare, 0.1),
  /** Ranks whose gates are below this are pruned. Default 1e-10. */
  pruneThreshold: v.optional(positiveShare, 1e-10),
  /**
   * Whether pruned ranks go to other modules; if not, they are lost. With a budget, the last reassignment fills it in
   * any case. Default true.
   */
  reassign: v.optional(v.boolean(), true),
  /** Whether modules that have just lost ranks get none. Default true. */
  excludePruned: v.optional(v.boolean(), true),
  ...budgetEntries,
};

/**
 * The options of L1RA. The sum of the initial ranks (`r`, default 8) is distributed; with a `budget`, ranks move by the
 * parameters that they store. `loraAlpha` is 8 by default.
 */
export type L1raConfig = RankOptions<typeof l1raOptions>;
