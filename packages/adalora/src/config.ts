import {
  ConfigError,
  dropoutRate,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  targetEntries,
  tokenEntries,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of AdaLoRA, in PEFT's names and with PEFT's defaults. */
export interface AdaloraConfig extends TargetConfig {
  /** `'svd'`: triplets (A_i, E_i, B_i); `'lora'`: the paper's ablation, doublets (A_i, B_i). Default 'svd'. */
  readonly parametrization: 'svd' | 'lora';
  /** Rank that every module starts with. Default 12. */
  readonly initR: number;
  /** Rank that modules have in the end, on average. Default 8. */
  readonly targetR: number;
  /** The change is scaled by `loraAlpha / (initR + 1e-5)`, whatever ranks remain. Default 8. */
  readonly loraAlpha: number;
  /** Share of the input that the change does not see while training. Default 0. */
  readonly loraDropout: number;
  /** T of the schedule. Default null: the run's steps. With a number, `tinit` and `tfinal` are 0 by default, as in PEFT. */
  readonly totalStep: number | null;
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
  /** gamma: weight of the orthogonality term. Default 0.5; 0 for doublets, which have none. */
  readonly orthRegWeight: number;
  /** `'squared-sum'`: the paper's; `'unsquared-mean'`: the released code's. Default 'squared-sum'. */
  readonly orthRegularizer: 'squared-sum' | 'unsquared-mean';
  /** What a triplet is judged by. Default 'smoothed-sensitivity', the paper's; the others are its ablations. */
  readonly importance: 'smoothed-sensitivity' | 'sensitivity' | 'magnitude';
  /**
   * `'paper'`: sensitivities take the weights before the step, every mask the scores of its own step, and exactly b(t)
   * triplets stay. `'released'`: as the released code and PEFT have it, they take the weights after the step, the last mask
   * the scores of the step before, and triplets that tie with the greatest one to go, go with it. Default 'paper'.
   */
  readonly allocator: 'paper' | 'released';
  /** Whether budgets count triplets, as in the paper, or the parameters they store. Default 'triplets'. */
  readonly budgetUnit: 'triplets' | 'parameters';
  /** Parameters to store in the end, with `budgetUnit: 'parameters'`; null for those of `targetR`. */
  readonly budget: number | null;
  /**
   * Whether triplets (or doublets) that the final mask leaves out are removed from the tensors, their scores and moments too, so
   * that the steps after it cost less; the step is compiled anew. Outputs stay as they were. Training goes on as it would
   * have, but for two things: gradients of what is removed no longer count in the clip norm, and the orthogonality term no
   * longer turns triplets away from those that are removed. What is removed does not come back, in a later run either.
   * Default false.
   */
  readonly compact: boolean;
}

/** gamma where none is given. */
const ORTH_REG_WEIGHT = { svd: 0.5, lora: 0 };

const smoothing = v.pipe(v.number(), v.gtValue(0), v.ltValue(1));

const entries = {
  ...targetEntries,
  ...tokenEntries,
  parametrization: v.optional(v.picklist(['svd', 'lora']), 'svd'),
  initR: v.optional(integerFrom(1), 12),
  targetR: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 8),
  loraDropout: v.optional(dropoutRate, 0),
  totalStep: v.nullish(integerFrom(1), null),
  tinit: v.nullish(integerFrom(0), null),
  tfinal: v.nullish(integerFrom(0), null),
  deltaT: v.optional(integerFrom(1), 1),
  beta1: v.optional(smoothing, 0.85),
  beta2: v.optional(smoothing, 0.85),
  orthRegWeight: v.optional(nonNegative),
  orthRegularizer: v.optional(v.picklist(['squared-sum', 'unsquared-mean']), 'squared-sum'),
  importance: v.optional(v.picklist(['smoothed-sensitivity', 'sensitivity', 'magnitude']), 'smoothed-sensitivity'),
  allocator: v.optional(v.picklist(['paper', 'released']), 'paper'),
  budgetUnit: v.optional(v.picklist(['triplets', 'parameters']), 'triplets'),
  budget: v.nullish(positive, null),
  compact: v.optional(v.boolean(), false),
};

/** Fills in AdaLoRA's defaults. @throws ConfigError naming the field. */
export function parseAdaloraConfig(input: unknown): AdaloraConfig {
  const parsed = parseOptions('adalora', entries, input);
  const config = { ...parsed, orthRegWeight: parsed.orthRegWeight ?? ORTH_REG_WEIGHT[parsed.parametrization] };
  assertRanks(config);
  assertPhases(config);
  if (config.parametrization === 'lora') assertDoublets(config);
  return config;
}

function assertRanks({ initR, targetR, budget, budgetUnit }: AdaloraConfig): void {
  if (targetR > initR) {
    throw new ConfigError(`adalora: targetR is ${targetR}; ranks only fall, from initR ${initR}`, 'targetR');
  }
  if (budget !== null && budgetUnit === 'triplets') {
    throw new ConfigError(
      `adalora: budget ${budget} counts parameters; set budgetUnit: 'parameters', or targetR instead`,
      'budget',
    );
  }
}

function assertPhases({ totalStep, tinit, tfinal }: AdaloraConfig): void {
  if (totalStep === null || (tinit ?? 0) < totalStep - (tfinal ?? 0)) return;
  throw new ConfigError(
    `adalora: tinit ${tinit ?? 0} and tfinal ${tfinal ?? 0} leave no step of totalStep ${totalStep} to choose ranks in; lower them`,
    'tinit',
  );
}

/** Doublets have no singular values and no singular vectors. */
function assertDoublets({ orthRegWeight, importance }: AdaloraConfig): void {
  if (orthRegWeight > 0) {
    throw new ConfigError(
      `adalora: orthRegWeight is ${orthRegWeight}; the factors of parametrization 'lora' are not singular vectors, leave it at 0`,
      'orthRegWeight',
    );
  }
  if (importance === 'magnitude') {
    throw new ConfigError(
      "adalora: importance 'magnitude' is that of singular values, which parametrization 'lora' does not have",
      'importance',
    );
  }
}
