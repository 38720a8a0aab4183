import {
  budgetEntries,
  dropoutRate,
  nonNegative,
  parseOptions,
  positive,
  rankEntries,
  type RankConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/**
 * The options of L1RA, with the released code's names. The sum of the initial ranks (`r`, default 8) is distributed.
 * `loraAlpha` is 8 by default.
 */
export interface L1raConfig extends RankConfig {
  /** lambda: every step shrinks each gate by `etaC * l1raLambda`. Default 1e-3. */
  readonly l1raLambda: number;
  /** eta_c, the gates' constant learning rate. Default 2e-2. */
  readonly etaC: number;
  /** The interval between two reassignments of ranks, as a share of the run's steps. Default 0.1. */
  readonly rankUpdateRatio: number;
  /** Ranks whose gates are below this are pruned. Default 1e-10. */
  readonly pruneThreshold: number;
  /**
   * Whether pruned ranks go to other modules; if not, they are lost. With a budget, the last reassignment fills it in
   * any case. Default true.
   */
  readonly reassign: boolean;
  /** Whether modules that have just lost ranks get none. Default true. */
  readonly excludePruned: boolean;
  /** Parameters stored at the end, met within 2 %: ranks then move by their cost. Default null: ranks are counted. */
  readonly budget: number | null;
}

const share = v.pipe(v.number(), v.gtValue(0), v.maxValue(1));

const entries = {
  ...rankEntries({ r: 8, loraAlpha: 8 }),
  loraDropout: v.optional(dropoutRate, 0),
  l1raLambda: v.optional(nonNegative, 1e-3),
  etaC: v.optional(positive, 2e-2),
  rankUpdateRatio: v.optional(share, 0.1),
  pruneThreshold: v.optional(share, 1e-10),
  reassign: v.optional(v.boolean(), true),
  excludePruned: v.optional(v.boolean(), true),
  ...budgetEntries,
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseL1raConfig(input: unknown): L1raConfig {
  return parseOptions('l1ra', entries, input);
}
