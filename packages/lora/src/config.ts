import {
  ConfigError,
  finite,
  parseOptions,
  positive,
  tokenEntries,
  warnOnce,
  type MethodOptions,
} from '@peftjs/core/method';
import { alphasFor, dropoutEntries, moduleRank, rankEntries, type ModuleRank } from '@peftjs/core/ranks';
import * as v from 'valibot';

/**
 * How A and B are initialized.
 * - `true`: A uniform, B zero. `'gaussian'`: A normal with standard deviation 1 / r, B zero.
 * - `false`: both random, so that the outputs change from the start.
 * - `'orthogonal'`: both random with A B = 0; needs an even rank.
 * - `'pissa'`, `'pissa_niter_N'`: the principal part of the weight, which is subtracted from the frozen weight. N is
 *   accepted for PEFT's sake and ignored.
 * - `'olora'`: the leading part of the weight's QR decomposition, subtracted in the same way.
 * - `'lora_ga'`: the leading directions of the weight's gradient on some batches, subtracted in the same way.
 * - `'eva'`: A from the leading directions of the modules' inputs, with ranks moved to where they explain most; B zero.
 * - `'stored'`: the form in which a file of `'lora_ga'` is read: A, B, A0 and B0 come from the file.
 */
export type InitLoraWeights =
  | boolean
  | 'gaussian'
  | 'orthogonal'
  | 'eva'
  | 'olora'
  | 'lora_ga'
  | 'stored'
  | 'pissa'
  | `pissa_niter_${number}`;

const NAMED_INITS = ['gaussian', 'orthogonal', 'eva', 'olora', 'lora_ga', 'pissa'];

const entries = {
  ...rankEntries({ r: 8, loraAlpha: 8 }),
  ...dropoutEntries,
  ...tokenEntries,
  /**
   * The alpha parameter: the change is scaled by `loraAlpha / r`. 0 turns it off, below 0 it is subtracted. Default 8.
   */
  loraAlpha: v.optional(finite, 8),
  /** Alphas of modules whose alpha is not `loraAlpha`, by the same keys. Default {}. */
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  /** Scales by `loraAlpha / sqrt(r)` (rank-stabilized LoRA): outputs keep their size as r grows. Default false. */
  useRslora: v.optional(v.boolean(), false),
  /** How A and B are initialized; see `InitLoraWeights`. Default true. */
  initLoraWeights: v.optional(
    v.pipe(
      v.unknown(),
      v.check(isInit, `expected true, false, ${NAMED_INITS.join(', ')} or pissa_niter_N`),
      v.transform((init) => init as InitLoraWeights),
    ),
    true,
  ),
  /** The options of `initLoraWeights: 'eva'`; null for any other. Default null. */
  evaConfig: v.nullish(v.record(v.string(), v.unknown()), null),
  /** The options of `initLoraWeights: 'lora_ga'`; null for any other. Default null. */
  loraGaConfig: v.nullish(v.record(v.string(), v.unknown()), null),
  /** Trains the magnitude of each output's weights separately from their direction (DoRA). Default false. */
  useDora: v.optional(v.boolean(), false),
  /**
   * Which biases of the model are trained: none, all, or with `'lora_only'` those of adapted modules. Default 'none'.
   */
  bias: v.optional(v.picklist(['none', 'all', 'lora_only']), 'none'),
  /** Adds a trained bias to B. Default false. */
  loraBias: v.optional(v.boolean(), false),
  /** The ratio of the learning rate of B, magnitudes and biases to that of A (LoRA+). Default 1. */
  loraplusLrRatio: v.optional(positive, 1),
  /** Freezes A and trains B along the gradient of the full weight (LoRA-FA). Default false. */
  loraFa: v.optional(v.boolean(), false),
};

/** The options of LoRA and its variants, with PEFT's names and defaults. */
export type LoraConfig = Omit<MethodOptions<typeof entries>, 'evaConfig' | 'loraGaConfig'> & {
  readonly evaConfig: EvaConfig | null;
  readonly loraGaConfig: LoraGaConfig | null;
};

/** What `lora` takes: any of its options, and of theirs. */
export type LoraOptions = Partial<Omit<LoraConfig, 'evaConfig' | 'loraGaConfig'>> & {
  readonly evaConfig?: Partial<EvaConfig> | null;
  readonly loraGaConfig?: Partial<LoraGaConfig> | null;
};

const evaEntries = {
  /**
   * Limits how far ranks move between modules: a module's rank is at most `rho` times its own; 1 moves none. Default 2.
   */
  rho: v.optional(v.pipe(v.number(), v.finite(), v.minValue(1)), 2),
  /** Scales alpha with the new rank, so that alpha / r does not change. Default true. */
  adjustScalingFactors: v.optional(v.boolean(), true),
  /**
   * What stays constant when ranks move: the total number of ranks, or of the parameters they store. Default 'ranks'.
   */
  budgetUnit: v.optional(v.picklist(['ranks', 'parameters']), 'ranks'),
};

/** The options of EVA. */
export type EvaConfig = Readonly<v.InferOutput<v.ObjectSchema<typeof evaEntries, undefined>>>;

const loraGaEntries = {
  /**
   * Which of the gradient's first 2 r singular vectors become A and B. `'ArB2r'`: A the first r, B the others;
   * `'A2rBr'`: the reverse; `'ArBr'`: alternately; `'random'`: both the same r, drawn at random. Default 'ArB2r'.
   */
  direction: v.optional(v.picklist(['ArBr', 'A2rBr', 'ArB2r', 'random']), 'ArB2r'),
  /**
   * How A and B are scaled. `'stable'`: B by `stableGamma`; `'weight_svd'`: B by the ratio of the weight's largest
   * singular value to the gradient's; `'gd_scale'`: both by 1 / s; `'unit'`: not at all. Default 'stable'.
   */
  scale: v.optional(v.picklist(['stable', 'weight_svd', 'gd_scale', 'unit']), 'stable'),
  /** gamma of `scale: 'stable'`: B is scaled by out^(1/4) / sqrt(gamma). Default 16. */
  stableGamma: v.optional(positive, 16),
};

/** The options of LoRA-GA. */
export type LoraGaConfig = Readonly<v.InferOutput<v.ObjectSchema<typeof loraGaEntries, undefined>>>;

/**
 * Validates the options and fills in defaults.
 * @throws ConfigError that names the field, also for options that exclude each other.
 */
export function parseLoraConfig(input: unknown): LoraConfig {
  const { evaConfig, loraGaConfig, ...parsed } = parseOptions('lora', entries, input);
  const init = parsed.initLoraWeights;
  const config: LoraConfig = {
    ...parsed,
    evaConfig: init === 'eva' ? nested('evaConfig', evaEntries, evaConfig) : unused('evaConfig', evaConfig),
    loraGaConfig:
      init === 'lora_ga' ? nested('loraGaConfig', loraGaEntries, loraGaConfig) : unused('loraGaConfig', loraGaConfig),
  };
  assertCompatible(config);
  return config;
}

/** Returns whether the initial A and B are a part of the frozen weight that the weight alone determines. */
export function isPartOfWeight(init: InitLoraWeights): boolean {
  return init === 'olora' || isPissa(init);
}

/** Returns whether a value is `'pissa'` or `'pissa_niter_N'`. */
function isPissa(init: unknown): init is 'pissa' | `pissa_niter_${number}` {
  return typeof init === 'string' && /^pissa(_niter_\d+)?$/.test(init);
}

function isInit(value: unknown): boolean {
  return typeof value === 'boolean' || NAMED_INITS.includes(value as string) || isPissa(value) || value === 'stored';
}

/** Parses the options inside another option. @throws ConfigError that names both. */
function nested<const S extends v.ObjectEntries>(field: string, entries: S, options: Record<string, unknown> | null) {
  try {
    return parseOptions(`lora: ${field}`, entries, options ?? {});
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError(error.message, `${field}.${error.path ?? ''}`) : error;
  }
}

function unused(field: string, options: unknown): null {
  if (options !== null) warnOnce(`lora: ${field} is ignored; it belongs to another initLoraWeights`);
  return null;
}

/** @throws ConfigError that names one of two options that exclude each other. */
function assertCompatible(config: LoraConfig): void {
  const { initLoraWeights: init, useDora, loraBias, loraFa, r } = config;
  assertDivisible(config);
  if (loraBias && useDora) throw new ConfigError('lora: loraBias cannot be combined with useDora', 'loraBias');
  if (loraBias && typeof init !== 'boolean') {
    throw new ConfigError(`lora: loraBias needs initLoraWeights true or false, got '${init}'`, 'loraBias');
  }
  if (loraFa && useDora) {
    throw new ConfigError(
      'lora: loraFa cannot be combined with useDora, whose weight is no longer W0 + s A B',
      'loraFa',
    );
  }
  if (loraFa && init === 'orthogonal') {
    throw new ConfigError("lora: loraFa needs an A of full rank; initLoraWeights 'orthogonal' gives half", 'loraFa');
  }
  if (init === 'orthogonal' && r % 2 !== 0) {
    throw new ConfigError(`lora: initLoraWeights 'orthogonal' needs an even rank, got r = ${r}`, 'r');
  }
}

/** @throws ConfigError for an alpha of 0 or less if the configuration divides by the scaling. */
function assertDivisible({ initLoraWeights: init, loraFa, loraAlpha, alphaPattern }: LoraConfig): void {
  const alphas = Object.entries({ loraAlpha, ...alphaPattern });
  const [field, alpha] = alphas.find(([, value]) => value <= 0) ?? [];
  const needs = loraFa
    ? 'loraFa'
    : isPartOfWeight(init) || init === 'lora_ga' || init === 'stored'
      ? String(init)
      : null;
  if (alpha === undefined || needs === null) return;
  throw new ConfigError(
    `lora: ${needs} divides by the scaling and needs an alpha above 0; '${field}' is ${alpha}`,
    'loraAlpha',
  );
}

/** The rank of a module and its scaling s. */
export interface Scaled {
  readonly r: number;
  readonly scaling: number;
}

/** Returns the rank and alpha of the module at `path`. */
export function rankAt(config: LoraConfig, path: string): ModuleRank {
  return moduleRank({ ...config, alpha: config.loraAlpha }, path);
}

/** Returns s = alpha / r, or alpha / sqrt(r) with rsLoRA (Kalajdzievski, 2023, arXiv 2312.03732). */
export function scalingOf(config: LoraConfig, { r, alpha }: ModuleRank): number {
  return alpha / divisorOf(config, r);
}

function divisorOf({ useRslora }: LoraConfig, r: number): number {
  return useRslora ? Math.sqrt(r) : r;
}

/** Returns the configuration in which s is `scaling` in every module. */
export function scaledTo(config: LoraConfig, scaling: number): LoraConfig {
  const { alpha: loraAlpha, alphaPattern } = alphasFor(config, (r) => scaling * divisorOf(config, r));
  return { ...config, loraAlpha, alphaPattern };
}
