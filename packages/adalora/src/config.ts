import {
  ConfigError,
  dropoutRate,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  targetEntries,
  tokenEntries,
  type MethodOptions,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** The default of gamma for each parametrization. */
const ORTH_REG_WEIGHT = { svd: 0.5, lora: 0 };

const smoothing = v.pipe(v.number(), v.gtValue(0), v.ltValue(1));

const entries = {
  ...targetEntries,
  ...tokenEntries,
  /** `'svd'`: triplets (A_i, E_i, B_i). `'lora'`: doublets (A_i, B_i), an ablation of the paper. Default 'svd'. */
  parametrization: v.optional(v.picklist(['svd', 'lora']), 'svd'),
  /** The initial rank of every module. Default 12. */
  initR: v.optional(integerFrom(1), 12),
  /** The target average rank of all modules at the end. Default 8. */
  targetR: v.optional(integerFrom(1), 8),
  /** Alpha: the change is scaled by `loraAlpha / (initR + 1e-5)`, with any number of remaining ranks. Default 8. */
  loraAlpha: v.optional(positive, 8),
  /** The dropout probability of the change's input, during training. Default 0. */
  loraDropout: v.optional(dropoutRate, 0),
  /**
   * T, the schedule's total number of steps. Default null: the run's steps. With a number, `tinit` and `tfinal` are 0
   * by default, as in PEFT.
   */
  totalStep: v.nullish(integerFrom(1), null),
  /** t_i, the number of initial warm-up steps before any triplet is masked. Default null: the run's warm-up steps. */
  tinit: v.nullish(integerFrom(0), null),
  /** t_f, the number of final steps after the last allocation. Default null: the run's final steps. */
  tfinal: v.nullish(integerFrom(0), null),
  /** Steps between two budget allocations. Default 1. */
  deltaT: v.optional(integerFrom(1), 1),
  /** The hyperparameter of the EMA that smooths the sensitivity. Default 0.85. */
  beta1: v.optional(smoothing, 0.85),
  /** The hyperparameter of the EMA that quantifies the uncertainty. Default 0.85. */
  beta2: v.optional(smoothing, 0.85),
  /** gamma, the coefficient of the orthogonality regularization. Default 0.5; 0 for doublets, which have none. */
  orthRegWeight: v.optional(nonNegative),
  /** The orthogonality term: `'squared-sum'` (paper) or `'unsquared-mean'` (released code). Default 'squared-sum'. */
  orthRegularizer: v.optional(v.picklist(['squared-sum', 'unsquared-mean']), 'squared-sum'),
  /**
   * How the importance of a triplet is measured: as in the paper, or as in one of its ablations.
   * Default 'smoothed-sensitivity', the paper's.
   */
  importance: v.optional(v.picklist(['smoothed-sensitivity', 'sensitivity', 'magnitude']), 'smoothed-sensitivity'),
  /**
   * `'paper'`: sensitivities use the weights before the step, every mask uses the scores of its own step, and exactly
   * b(t) triplets are kept. `'released'`, as in the released code and PEFT: sensitivities use the weights after the
   * step, the last mask uses the scores of the step before it, and triplets that tie with the greatest dropped score
   * are dropped too. Default 'paper'.
   */
  allocator: v.optional(v.picklist(['paper', 'released']), 'paper'),
  /** Whether budgets count triplets, as in the paper, or the parameters that they store. Default 'triplets'. */
  budgetUnit: v.optional(v.picklist(['triplets', 'parameters']), 'triplets'),
  /**
   * The number of parameters to store at the end, with `budgetUnit: 'parameters'`. Default null: what `targetR` stores.
   */
  budget: v.nullish(positive, null),
  /**
   * Whether triplets (or doublets) that the final mask drops are removed from the tensors, with their scores and
   * moments, so that later steps are faster. The step is recompiled; outputs do not change. Training then differs in
   * two ways: removed triplets no longer contribute to the clip norm, and the orthogonality term no longer pushes other
   * triplets away from them. Removed triplets do not come back, not even in a later run. Default false.
   */
  compact: v.optional(v.boolean(), false),
};

/** The options of AdaLoRA, with PEFT's names and defaults. */
export type AdaloraConfig = MethodOptions<typeof entries> & { readonly orthRegWeight: number };

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
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

/** Rejects options that doublets lack the singular values or singular vectors for. */
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
