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

/** The options of L1RA, with the released code's names. */
export interface L1raConfig extends TargetConfig {
  /** The initial rank of every module. Their sum is the number of ranks to distribute. Default 8. */
  readonly r: number;
  /** The alpha parameter: the change is scaled by `loraAlpha / r`, with the initial r. Default 8. */
  readonly loraAlpha: number;
  /** Initial ranks that differ from `r`, by module path or a regular expression for its end. Default {}. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules whose alpha is not `loraAlpha`, by the same keys. Default {}. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** The dropout probability of each module's input, applied before A during training. Default 0. */
  readonly loraDropout: number;
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
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 8),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  loraDropout: v.optional(dropoutRate, 0),
  l1raLambda: v.optional(nonNegative, 1e-3),
  etaC: v.optional(positive, 2e-2),
  rankUpdateRatio: v.optional(share, 0.1),
  pruneThreshold: v.optional(share, 1e-10),
  reassign: v.optional(v.boolean(), true),
  excludePruned: v.optional(v.boolean(), true),
  budget: v.nullish(positive, null),
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseL1raConfig(input: unknown): L1raConfig {
  return parseOptions('l1ra', entries, input);
}
