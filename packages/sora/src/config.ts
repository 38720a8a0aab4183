import {
  dropoutRate,
  integerFrom,
  nonNegative,
  parseOptions,
  positive,
  rankEntries,
  type RankConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** The options of SoRA. r_max, the rank that every module starts with, is `r`, 8 by default; `loraAlpha` is 16. */
export interface SoraConfig extends RankConfig {
  /**
   * Sets the defaults of `gateInit` and `separation`. `'paper'`: as in the paper; `'choosing'` (ours): chooses ranks by
   * the task even in runs that are shorter than the paper's. Default null: 'choosing' with a `budget`, 'paper' without.
   */
  readonly variant: 'paper' | 'choosing' | null;
  /**
   * How far each gate is shrunk per step: lambda, multiplied by the gates' learning rate, with `thresholdMode: 'lr'`;
   * xi itself with `'constant'`. Default 0.5 for lambda and 3e-4 for xi. With a `budget` the controller sets it
   * instead.
   */
  readonly sparseLambda: number;
  /** `'lr'`: the paper's threshold, eta_t * lambda; `'constant'`: the released script's, xi. Default 'lr'. */
  readonly thresholdMode: 'lr' | 'constant';
  /**
   * `'soft'`: the proximal operator; `'reference'`: the released code's variant, whose dead zone is twice as wide.
   * Default 'soft'.
   */
  readonly proximal: 'soft' | 'reference';
  /** Initial gates: N(0, 1), as in the released code, or 1. Default null: 'normal' in variant 'paper', else 'ones'. */
  readonly gateInit: 'normal' | 'ones' | null;
  /**
   * Whether each module's change is rewritten in its singular basis once, halfway between the warm-up and the choice of
   * ranks. Thresholds are 0 until then. Default null: false in the variant 'paper', else true.
   */
  readonly separation: boolean | null;
  /**
   * Weight of the gates' mean absolute value in the loss; the released code has it besides the threshold. Default 0.
   */
  readonly l1Weight: number;
  /**
   * The number of parameters stored at the end, met within 1 %. `null`: `sparseLambda` decides. `'auto'`: the smallest
   * number whose adapter scores no worse than the dense one, within a standard error, on the selection rows passed to
   * `train`. Default null.
   */
  readonly budget: number | 'auto' | null;
  /**
   * Which ranks a `budget` keeps. `'importance'`: those with the most importance per stored parameter. `'random'` (a
   * control): ranks drawn with the run's seed, with no threshold before the draw. Default 'importance'.
   */
  readonly selection: 'importance' | 'random';
  /**
   * Steps between two checks for pruned ranks. If they make up a quarter of the parameters, they and their optimizer
   * moments are removed for good and the step is recompiled. With a `budget`, any number means once, when the ranks are
   * chosen. Default null: pruned ranks stay in the tensors and may come back.
   */
  readonly compactEvery: number | null;
}

/** The default of `sparseLambda` for each `thresholdMode`: lambda and xi. */
const SPARSE_LAMBDA = { lr: 0.5, constant: 3e-4 };

/** The options whose defaults a variant sets. */
type Choice = Pick<SoraConfig, 'gateInit' | 'separation'>;
type Chosen = { readonly [K in keyof Choice]: NonNullable<Choice[K]> };

const VARIANTS: Record<NonNullable<SoraConfig['variant']>, Chosen> = {
  paper: { gateInit: 'normal', separation: false },
  choosing: { gateInit: 'ones', separation: true },
};

/** Returns the variant of a configuration: the one it names, or the default for its budget. */
export function variantOf({ variant, budget }: Pick<SoraConfig, 'variant' | 'budget'>): 'paper' | 'choosing' {
  return variant ?? (budget === null ? 'paper' : 'choosing');
}

/** Returns `gateInit` and `separation`, with the variant's defaults filled in. */
export function choiceOf(config: SoraConfig): Chosen {
  const preset = VARIANTS[variantOf(config)];
  return {
    gateInit: config.gateInit ?? preset.gateInit,
    separation: config.separation ?? preset.separation,
  };
}

const entries = {
  ...rankEntries({ r: 8, loraAlpha: 16 }),
  sparseLambda: v.optional(nonNegative),
  thresholdMode: v.optional(v.picklist(['lr', 'constant']), 'lr'),
  proximal: v.optional(v.picklist(['soft', 'reference']), 'soft'),
  variant: v.nullish(v.picklist(['paper', 'choosing']), null),
  gateInit: v.nullish(v.picklist(['normal', 'ones']), null),
  separation: v.nullish(v.boolean(), null),
  loraDropout: v.optional(dropoutRate, 0),
  l1Weight: v.optional(nonNegative, 0),
  budget: v.nullish(v.union([positive, v.literal('auto')], "expected a number above 0, 'auto' or null"), null),
  selection: v.optional(v.picklist(['importance', 'random']), 'importance'),
  compactEvery: v.nullish(integerFrom(1), null),
};

/** Validates the options and fills in defaults. @throws ConfigError that names the invalid field. */
export function parseSoraConfig(input: unknown): SoraConfig {
  const given = parseOptions('sora', entries, input);
  return { ...given, sparseLambda: given.sparseLambda ?? SPARSE_LAMBDA[given.thresholdMode] };
}
