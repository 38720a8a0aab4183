import {
  ConfigError,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  targetEntries,
  type TargetConfig,
} from '@peftjs/core';
import * as v from 'valibot';

/** Options of AdaLoRA, in PEFT's names and with PEFT's defaults. */
export interface AdaloraConfig extends TargetConfig {
  /** Rank that every module starts with. Default 12. */
  readonly initR: number;
  /** Rank that modules have in the end, on average. Default 8. */
  readonly targetR: number;
  /** The change is scaled by `loraAlpha / (initR + 1e-5)`, whatever ranks remain. Default 8. */
  readonly loraAlpha: number;
  /** t_i: steps before the first triplet goes. Default null: the run's warm-up. */
  readonly tinit: number | null;
  /** t_f: steps after the last allocation. Default null: the run's final steps. */
  readonly tfinal: number | null;
  /** Steps between two allocations. Default 1. */
  readonly deltaT: number;
  /** Smoothing of the sensitivity. Default 0.85. */
  readonly beta1: number;
  /** Smoothing of the uncertainty. Default 0.85. */
  readonly beta2: number;
  /** gamma: weight of the orthogonality term. Default 0.5. */
  readonly orthRegWeight: number;
  /** `'squared-sum'`: the paper's; `'unsquared-mean'`: the released code's. Default 'squared-sum'. */
  readonly orthRegularizer: 'squared-sum' | 'unsquared-mean';
  /** What a triplet is judged by. Default 'smoothed-sensitivity', the paper's; the others are its ablations. */
  readonly importance: 'smoothed-sensitivity' | 'sensitivity' | 'magnitude';
  /** Whether budgets count triplets, as in the paper, or the parameters they store. Default 'triplets'. */
  readonly budgetUnit: 'triplets' | 'parameters';
  /** Parameters to store in the end, with `budgetUnit: 'parameters'`; null for those of `targetR`. */
  readonly budget: number | null;
}

const share = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

const entries = {
  ...targetEntries,
  initR: v.optional(integerFrom(1), 12),
  targetR: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 8),
  tinit: v.nullish(integerFrom(0), null),
  tfinal: v.nullish(integerFrom(0), null),
  deltaT: v.optional(integerFrom(1), 1),
  beta1: v.optional(share, 0.85),
  beta2: v.optional(share, 0.85),
  orthRegWeight: v.optional(nonNegative, 0.5),
  orthRegularizer: v.optional(v.picklist(['squared-sum', 'unsquared-mean']), 'squared-sum'),
  importance: v.optional(v.picklist(['smoothed-sensitivity', 'sensitivity', 'magnitude']), 'smoothed-sensitivity'),
  budgetUnit: v.optional(v.picklist(['triplets', 'parameters']), 'triplets'),
  budget: v.nullish(positive, null),
};

/** Fills in AdaLoRA's defaults. @throws ConfigError naming the field. */
export function parseAdaloraConfig(input: unknown): AdaloraConfig {
  const config = parseOptions('adalora', entries, input);
  if (config.targetR > config.initR) {
    throw new ConfigError(
      `adalora: targetR is ${config.targetR}; ranks only fall, from initR ${config.initR}`,
      'targetR',
    );
  }
  if (config.budget !== null && config.budgetUnit === 'triplets') {
    throw new ConfigError(
      `adalora: budget ${config.budget} counts parameters; set budgetUnit: 'parameters', or targetR instead`,
      'budget',
    );
  }
  return config;
}
