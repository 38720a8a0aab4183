import {
  budgetEntries,
  dropoutRate,
  integerFrom,
  parseOptions,
  rankEntries,
  type RankConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** The options of ALoRA. The sum of the initial ranks (`r`, default 8) is distributed. `loraAlpha` is 8 by default. */
export interface AloraConfig extends RankConfig {
  /** N_A, the number of rounds in which ranks move; 0 moves none. Default 8. */
  readonly rounds: number;
  /** When the first round comes, as a share of the run's steps. Default 0.1: the paper's K1, 1 epoch of 10. */
  readonly firstRound: number;
  /**
   * The interval between two rounds, as a share of the run's steps. Default 0.025: the paper's K2, 0.25 epochs of 10.
   */
  readonly roundInterval: number;
  /** n_A, the share of the initial ranks that move in one round. Default 1/8. */
  readonly movedShare: number;
  /** The number of training rows that are held out to score ranks on. Default 32. */
  readonly probeRows: number;
  /** Parameters stored at the end, met within 2 %: ranks then move by their cost. Default null: ranks are counted. */
  readonly budget: number | null;
}

const share = v.pipe(v.number(), v.gtValue(0), v.maxValue(1));

const entries = {
  ...rankEntries({ r: 8, loraAlpha: 8 }),
  loraDropout: v.optional(dropoutRate, 0),
  rounds: v.optional(integerFrom(0), 8),
  firstRound: v.optional(share, 0.1),
  roundInterval: v.optional(share, 0.025),
  movedShare: v.optional(share, 1 / 8),
  probeRows: v.optional(integerFrom(1), 32),
  ...budgetEntries,
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseAloraConfig(input: unknown): AloraConfig {
  return parseOptions('alora', entries, input);
}
