import {
  dropoutRate,
  integerFrom,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of ALoRA. */
export interface AloraConfig extends TargetConfig {
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
  /** N_A: how often ranks move in a run; 0 for never. Default 8. */
  readonly rounds: number;
  /** Share of the run's steps before the first round. Default 0.1: the paper's K1 of 1 epoch in 10. */
  readonly firstRound: number;
  /** Share of the run's steps from one round to the next. Default 0.025: the paper's K2 of a quarter of an epoch in 10. */
  readonly roundInterval: number;
  /** n_A: share of the starting ranks that move in a round. Default 1/8. */
  readonly movedShare: number;
  /** Training rows that are kept from training, to score ranks on. Default 32. */
  readonly probeRows: number;
  /** Parameters to store in the end, within 2 %: ranks then move by what they store. Default null: ranks are counted. */
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
  rounds: v.optional(integerFrom(0), 8),
  firstRound: v.optional(share, 0.1),
  roundInterval: v.optional(share, 0.025),
  movedShare: v.optional(share, 1 / 8),
  probeRows: v.optional(integerFrom(1), 32),
  budget: v.nullish(positive, null),
};

/** Fills in ALoRA's defaults. @throws ConfigError naming the field. */
export function parseAloraConfig(input: unknown): AloraConfig {
  return parseOptions('alora', entries, input);
}
