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

/** Options of SoRA. */
export interface SoraConfig extends TargetConfig {
  /**
   * Which defaults `gateInit` and `separation` have. `'paper'`: the paper's method; `'choosing'` (ours): what finds the
   * ranks of the task in runs shorter than the paper's. Default null: 'choosing' with a `budget`, 'paper' without.
   */
  readonly variant: 'paper' | 'choosing' | null;
  /** r_max: the rank that every module starts with and that zero gates take away from. Default 8. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`, whatever ranks remain. Default 16, as in the paper's scripts. */
  readonly loraAlpha: number;
  /** Starting ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /**
   * What is taken from every gate at every step: lambda, times the gates' learning rate, in `thresholdMode: 'lr'`; xi itself
   * in `'constant'`. Default 0.5 and 3e-4. With a `budget` the controller decides instead.
   */
  readonly sparseLambda: number;
  /** `'lr'`: the paper's eta_t * lambda; `'constant'`: the released script's xi. Default 'lr'. */
  readonly thresholdMode: 'lr' | 'constant';
  /** `'soft'`: the proximal operator; `'reference'`: the released code's, with a dead zone twice as wide. Default 'soft'. */
  readonly proximal: 'soft' | 'reference';
  /** Gates start from N(0, 1), as in the released code, or from one. Default null: 'normal' in the variant 'paper', else 'ones'. */
  readonly gateInit: 'normal' | 'ones' | null;
  /**
   * Whether every module's change is written in its singular basis once, halfway between the warm-up and the choice of ranks, and
   * thresholds begin there. Default null: false in the variant 'paper', else true.
   */
  readonly separation: boolean | null;
  /** Share of a module's input `x` that is dropped before A while training. Default 0, as in the paper's scripts. */
  readonly loraDropout: number;
  /** Weight of the gates' mean absolute value in the loss, which the released code adds to the threshold. Default 0. */
  readonly l1Weight: number;
  /**
   * Parameters to store in the end, within 1 %; null lets `sparseLambda` decide. `'auto'`: the fewest with which the adapter does not
   * lose against the dense one on the selection data that `train` is given.
   */
  readonly budget: number | 'auto' | null;
  /**
   * Which ranks stay within a `budget`: those of most importance for what they store, or, as a control, some drawn at
   * random by the run's seed, without a threshold before. Default 'importance'.
   */
  readonly selection: 'importance' | 'random';
  /**
   * Steps between two looks for ranks that have died: where they make a quarter of the tensors, they and their moments are
   * removed, and the step is compiled anew. What is removed does not come back. With a `budget` any number means once, when
   * the ranks are chosen. Default null: dead ranks stay in the tensors and may come back.
   */
  readonly compactEvery: number | null;
}

/** lambda and xi where none is given. */
const SPARSE_LAMBDA = { lr: 0.5, constant: 3e-4 };

/** What a variant decides. */
type Choice = Pick<SoraConfig, 'gateInit' | 'separation'>;
type Chosen = { readonly [K in keyof Choice]: NonNullable<Choice[K]> };

const VARIANTS: Record<NonNullable<SoraConfig['variant']>, Chosen> = {
  paper: { gateInit: 'normal', separation: false },
  choosing: { gateInit: 'ones', separation: true },
};

/** The variant of a configuration that may name none. */
export function variantOf({ variant, budget }: Pick<SoraConfig, 'variant' | 'budget'>): 'paper' | 'choosing' {
  return variant ?? (budget === null ? 'paper' : 'choosing');
}

/** The options that a variant decides where they are not given. */
export function choiceOf(config: SoraConfig): Chosen {
  const preset = VARIANTS[variantOf(config)];
  return {
    gateInit: config.gateInit ?? preset.gateInit,
    separation: config.separation ?? preset.separation,
  };
}

const entries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 16),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
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

/** Fills in SoRA's defaults. @throws ConfigError naming the field. */
export function parseSoraConfig(input: unknown): SoraConfig {
  const given = parseOptions('sora', entries, input);
  return { ...given, sparseLambda: given.sparseLambda ?? SPARSE_LAMBDA[given.thresholdMode] };
}
