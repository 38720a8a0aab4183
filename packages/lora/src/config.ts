import {
  ConfigError,
  dropoutRate,
  finite,
  integerFrom,
  parseOptions,
  patternValue,
  positive,
  targetEntries,
  tokenEntries,
  warnOnce,
  type TargetConfig,
} from '@peftjs/core/method';
import * as v from 'valibot';

/** Options of LoRA and its variants, in PEFT's names and with PEFT's defaults. */
export interface LoraConfig extends TargetConfig {
  /** Rank of the change of a weight. Default 8. */
  readonly r: number;
  /** The change is scaled by `loraAlpha / r`; at 0 there is none, below 0 it is taken away. Default 8. */
  readonly loraAlpha: number;
  /** Scale by `loraAlpha / sqrt(r)` instead (rsLoRA), which keeps the output's size as `r` grows. Default false. */
  readonly useRslora: boolean;
  /** Ranks of single modules, by path or by a regular expression for the end of it. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of single modules, likewise. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Rate of dropout on what the change reads, in [0, 1). Embeddings have none. Default 0. */
  readonly loraDropout: number;
  /** What A and B start from; see `InitLoraWeights`. Default true. */
  readonly initLoraWeights: InitLoraWeights;
  /** Options of `initLoraWeights: 'eva'`; null otherwise. */
  readonly evaConfig: EvaConfig | null;
  /** Options of `initLoraWeights: 'lora_ga'`; null otherwise. */
  readonly loraGaConfig: LoraGaConfig | null;
  /** Train the size of every output's weights apart from their direction (DoRA). Default false. */
  readonly useDora: boolean;
  /** Which biases of the model are trained: `'lora_only'` are those of adapted modules. Default 'none'. */
  readonly bias: 'none' | 'all' | 'lora_only';
  /** Give B a bias of its own. Default false. */
  readonly loraBias: boolean;
  /** Learning rate of B, magnitudes and biases, in learning rates of A (LoRA+). Default 1. */
  readonly loraplusLrRatio: number;
  /** Keep A as it starts and train B along the gradient of the whole weight (LoRA-FA). Default false. */
  readonly loraFa: boolean;
}

/**
 * - `true`: A uniform, B zero. `'gaussian'`: A normal with deviation 1 / r, B zero.
 * - `false`: both random, which changes the outputs from the start.
 * - `'orthogonal'`: both random with A B = 0; needs an even rank.
 * - `'pissa'`, `'pissa_niter_N'`: the principal part of the weight, which leaves the frozen one; N is PEFT's and ignored.
 * - `'olora'`: the leading part of the weight's QR decomposition, likewise.
 * - `'lora_ga'`: leading directions of the weight's gradient on some batches, likewise.
 * - `'eva'`: A from the leading directions of what the modules read, ranks moved to where they explain most; B zero.
 * - `'stored'`: what a file of `'lora_ga'` is read as: A, B and what they took out of the weight come from the file.
 */
export type InitLoraWeights =
  boolean | 'gaussian' | 'orthogonal' | 'eva' | 'olora' | 'lora_ga' | 'stored' | 'pissa' | `pissa_niter_${number}`;

/** Options of EVA. */
export interface EvaConfig {
  /** A module's rank grows up to `rho` times what it was given; 1 leaves the ranks alone. Default 2. */
  readonly rho: number;
  /** Scale alpha with the rank, so that alpha / r stays. Default true. */
  readonly adjustScalingFactors: boolean;
  /** What stays the same when ranks move: their number, or the parameters they store. Default 'ranks'. */
  readonly budgetUnit: 'ranks' | 'parameters';
}

/** Options of LoRA-GA. */
export interface LoraGaConfig {
  /** Which of the gradient's first 2 r singular vectors A and B take. Default 'ArB2r'. */
  readonly direction: 'ArBr' | 'A2rBr' | 'ArB2r' | 'random';
  /** How A and B are scaled. Default 'stable'. */
  readonly scale: 'stable' | 'weight_svd' | 'gd_scale' | 'unit';
  /** Gamma of `scale: 'stable'`. Default 16. */
  readonly stableGamma: number;
}

const NAMED_INITS = ['gaussian', 'orthogonal', 'eva', 'olora', 'lora_ga', 'pissa'];

/** The options of LoRA without a variant. */
export const plainEntries = {
  ...targetEntries,
  r: v.optional(integerFrom(1), 8),
  loraAlpha: v.optional(positive, 8),
  rankPattern: v.optional(v.record(v.string(), integerFrom(1)), {}),
  alphaPattern: v.optional(v.record(v.string(), positive), {}),
  loraDropout: v.optional(dropoutRate, 0),
};

const entries = {
  ...plainEntries,
  ...tokenEntries,
  loraAlpha: v.optional(finite, 8),
  alphaPattern: v.optional(v.record(v.string(), finite), {}),
  useRslora: v.optional(v.boolean(), false),
  initLoraWeights: v.optional(
    v.pipe(
      v.unknown(),
      v.check(isInit, `expected true, false, ${NAMED_INITS.join(', ')} or pissa_niter_N`),
      v.transform((init) => init as InitLoraWeights),
    ),
    true,
  ),
  evaConfig: v.nullish(v.record(v.string(), v.unknown()), null),
  loraGaConfig: v.nullish(v.record(v.string(), v.unknown()), null),
  useDora: v.optional(v.boolean(), false),
  bias: v.optional(v.picklist(['none', 'all', 'lora_only']), 'none'),
  loraBias: v.optional(v.boolean(), false),
  loraplusLrRatio: v.optional(positive, 1),
  loraFa: v.optional(v.boolean(), false),
};

const evaEntries = {
  rho: v.optional(v.pipe(v.number(), v.finite(), v.minValue(1)), 2),
  adjustScalingFactors: v.optional(v.boolean(), true),
  budgetUnit: v.optional(v.picklist(['ranks', 'parameters']), 'ranks'),
};

const loraGaEntries = {
  direction: v.optional(v.picklist(['ArBr', 'A2rBr', 'ArB2r', 'random']), 'ArB2r'),
  scale: v.optional(v.picklist(['stable', 'weight_svd', 'gd_scale', 'unit']), 'stable'),
  stableGamma: v.optional(positive, 16),
};

/** Fills in LoRA's defaults. @throws ConfigError naming the field, also for options that exclude each other. */
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

/** Whether A and B start from a part of the frozen weight that the weight alone determines. */
export function isPartOfWeight(init: InitLoraWeights): boolean {
  return init === 'olora' || isPissa(init);
}

/** Whether a value is `'pissa'` or `'pissa_niter_N'`. */
function isPissa(init: unknown): init is 'pissa' | `pissa_niter_${number}` {
  return typeof init === 'string' && /^pissa(_niter_\d+)?$/.test(init);
}

function isInit(value: unknown): boolean {
  return typeof value === 'boolean' || NAMED_INITS.includes(value as string) || isPissa(value) || value === 'stored';
}

/** Options within an option. @throws ConfigError naming both. */
function nested<const S extends v.ObjectEntries>(field: string, entries: S, options: Record<string, unknown> | null) {
  try {
    return parseOptions(`lora: ${field}`, entries, options ?? {});
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError(error.message, `${field}.${error.path ?? ''}`) : error;
  }
}

function unused(field: string, options: unknown): null {
  if (options !== null) warnOnce(`lora: ${field} is ignored, it belongs to another initLoraWeights`);
  return null;
}

/** @throws ConfigError naming one of two options that exclude each other. */
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
    throw new ConfigError(
      "lora: loraFa needs an A of full rank; that of initLoraWeights 'orthogonal' has half",
      'loraFa',
    );
  }
  if (init === 'orthogonal' && r % 2 !== 0) {
    throw new ConfigError(`lora: initLoraWeights 'orthogonal' needs an even rank, got r = ${r}`, 'r');
  }
}

/** @throws ConfigError for an alpha of 0 or less where the scaling is divided by. */
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

/** Rank and alpha of a module. */
export interface Rank {
  readonly r: number;
  readonly alpha: number;
}

/** Rank and scaling of a module. */
export interface Scaled {
  readonly r: number;
  readonly scaling: number;
}

/** What a configuration gives the module at `path`. */
export function rankAt({ r, loraAlpha, rankPattern, alphaPattern }: LoraConfig, path: string): Rank {
  return { r: patternValue(rankPattern, path) ?? r, alpha: patternValue(alphaPattern, path) ?? loraAlpha };
}

/** s = alpha / r; as rsLoRA (Kalajdzievski, 2023, arXiv 2312.03732) alpha / sqrt(r). */
export function scalingOf({ useRslora }: LoraConfig, { r, alpha }: Rank): number {
  return alpha / (useRslora ? Math.sqrt(r) : r);
}
