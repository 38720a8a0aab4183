import { integerFrom, nonNegative, positive } from '@peftjs/core/method';
import { dropoutEntries, type RankOptions } from '@peftjs/core/ranks';
import * as v from 'valibot';

/** The options that only SoRA has. */
export const soraOptions = {
  /** `'lr'`: the paper's threshold, eta_t * lambda; `'constant'`: the released script's, xi. Default 'lr'. */
  thresholdMode: v.optional(v.picklist(['lr', 'constant']), 'lr'),
  /**
   * `'soft'`: the proximal operator; `'reference'`: the released code's variant, whose dead zone is twice as wide.
   * Default 'soft'.
   */
  proximal: v.optional(v.picklist(['soft', 'reference']), 'soft'),
  /**
   * Sets the defaults of `gateInit` and `separation`. `'paper'`: as in the paper; `'choosing'` (ours): chooses ranks by
   * the task even in runs that are shorter than the paper's. Default null: 'choosing' with a `budget`, 'paper' without.
   */
  variant: v.nullish(v.picklist(['paper', 'choosing']), null),
  /** Initial gates: N(0, 1), as in the released code, or 1. Default null: 'normal' in variant 'paper', else 'ones'. */
  gateInit: v.nullish(v.picklist(['normal', 'ones']), null),
  /**
   * Whether each module's change is rewritten in its singular basis once, halfway between the warm-up and the choice of
   * ranks. Thresholds are 0 until then. Default null: false in the variant 'paper', else true.
   */
  separation: v.nullish(v.boolean(), null),
  ...dropoutEntries,
  /**
   * Weight of the gates' mean absolute value in the loss; the released code has it besides the threshold. Default 0.
   */
  l1Weight: v.optional(nonNegative, 0),
  /**
   * The number of parameters stored at the end, met within 1 %. `null`: `sparseLambda` decides. `'auto'`: the smallest
   * number whose adapter scores no worse than the dense one, within a standard error, on the selection rows passed to
   * `train`. Default null.
   */
  budget: v.nullish(v.union([positive, v.literal('auto')], "expected a number above 0, 'auto' or null"), null),
  /**
   * Which ranks a `budget` keeps. `'importance'`: those with the most importance per stored parameter. `'random'` (a
   * control): ranks drawn with the run's seed, with no threshold before the draw. Default 'importance'.
   */
  selection: v.optional(v.picklist(['importance', 'random']), 'importance'),
  /**
   * Steps between two checks for pruned ranks. If they make up a quarter of the parameters, they and their optimizer
   * moments are removed for good and the step is recompiled. With a `budget`, any number means once, when the ranks are
   * chosen. Default null: pruned ranks stay in the tensors and may come back.
   */
  compactEvery: v.nullish(integerFrom(1), null),
  /**
   * How far each gate is shrunk per step: lambda, multiplied by the gates' learning rate, with `thresholdMode: 'lr'`;
   * xi itself with `'constant'`. Default 0.5 for lambda and 3e-4 for xi. With a `budget` the controller sets it
   * instead.
   */
  sparseLambda: v.optional(nonNegative),
};

/** The options of SoRA. r_max, the rank that every module starts with, is `r`, 8 by default; `loraAlpha` is 16. */
export type SoraConfig = RankOptions<typeof soraOptions> & { readonly sparseLambda: number };

/** The default of `sparseLambda` for each `thresholdMode`: lambda and xi. */
const SPARSE_LAMBDA = { lr: 0.5, constant: 3e-4 };

/** The defaults of each variant. */
const VARIANTS = {
  paper: { gateInit: 'normal', separation: false },
  choosing: { gateInit: 'ones', separation: true },
} as const;

/** Returns the variant that a configuration names, or the default for its budget, with the variant's options. */
export function choiceOf(config: Pick<SoraConfig, 'variant' | 'gateInit' | 'separation' | 'budget'>) {
  const variant = config.variant ?? (config.budget === null ? 'paper' : 'choosing');
  const { gateInit, separation } = VARIANTS[variant];
  return { variant, gateInit: config.gateInit ?? gateInit, separation: config.separation ?? separation };
}

/** Whether a budget keeps ranks that are drawn. */
export function drawsRanks({ budget, selection }: Pick<SoraConfig, 'budget' | 'selection'>): boolean {
  return budget !== null && selection === 'random';
}

/** Sets `sparseLambda` by the kind of threshold if it is not given. */
export function withLambda(
  config: Omit<SoraConfig, 'sparseLambda'> & { readonly sparseLambda?: number | undefined },
): SoraConfig {
  return { ...config, sparseLambda: config.sparseLambda ?? SPARSE_LAMBDA[config.thresholdMode] };
}
