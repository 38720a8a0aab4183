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

/** Options of L1RA, in the released code's names. */
export interface L1raConfig extends TargetConfig {
  /** The rank that every module starts with; all of them together are the ranks that there are to give. Default 8. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`, whatever ranks a module comes to have. Default 8. */
  readonly loraAlpha: number;
  /** Starting ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Share of a module's input that A does not see while training. Default 0. */
  readonly loraDropout: number;
  /** lambda: what every step takes from a gate, times `etaC`. Default 1e-3. */
  readonly l1raLambda: number;
  /** The gates' own learning rate, the same at every step. Default 2e-2. */
  readonly etaC: number;
  /** Share of the run's steps from one reassignment of ranks to the next. Default 0.1. */
  readonly rankUpdateRatio: number;
  /** Ranks whose gates are below this are pruned. Default 1e-10. */
  readonly pruneThreshold: number;
  /** Whether pruned ranks go to other modules, or are lost. Default true. */
  readonly reassign: boolean;
  /** Whether modules that have just lost ranks get none. Default true. */
  readonly excludePruned: boolean;
  /** Parameters to store in the end, within 1 %: ranks then move by what they store. Default null: ranks are counted. */
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

/** Fills in L1RA's defaults. @throws ConfigError naming the field. */
export function parseL1raConfig(input: unknown): L1raConfig {
  return parseOptions('l1ra', entries, input);
}
