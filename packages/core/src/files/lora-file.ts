import { rankPatterns, type ModuleRank } from '../ranks/budget.js';
import { factorsOf } from '../ranks/truncation.js';
import { describe } from '../config.js';
import { CheckpointError, UnsupportedError } from '../errors.js';
import type { AdapterLayer, AdapterLayers, LoraFactors } from '../contracts/layer.js';
import type { AdapterContents, AdapterFile, PeftMethod } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { hostZeros, mapValues, sizeOf, tensorAt, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { patternTable } from './module-pattern.js';

/** PEFT's type of the format that every low-rank change of weights is exchanged in. */
export const LORA = 'LORA';

/** Returns whether a method reads that format. */
export function readsLora({ peftTypes }: Pick<PeftMethod, 'peftTypes'>): boolean {
  return peftTypes.includes(LORA);
}

/** PEFT's suffixes for a module's A and B. */
type FactorNames = Readonly<Record<'loraA' | 'loraB', string>>;

const LINEAR: FactorNames = { loraA: '.lora_A.weight', loraB: '.lora_B.weight' };
const EMBEDDING: FactorNames = { loraA: '.lora_embedding_A', loraB: '.lora_embedding_B' };
const SUFFIXES = [LINEAR, EMBEDDING].flatMap(({ loraA, loraB }) => [loraA, loraB]);

/**
 * Tensors that PEFT can store besides A and B and that change the outputs. Methods that support them remove them before
 * A and B are read.
 */
const EXTRA_TENSORS = /\.(lora_magnitude_vector|bias)$/;
const ANNOUNCEMENTS = ['use_dora', 'lora_bias'];

/** Variants of LoRA in PEFT that no method here supports. Their outputs would differ. */
const UNKNOWN_VARIANTS = [
  'alora_invocation_tokens',
  'arrow_config',
  'kasa_config',
  'layer_replication',
  'monteclora_config',
  'target_parameters',
  'use_bdlora',
  'use_qalora',
  'velora_config',
];

/** For these, PEFT takes an empty object as the variant with its defaults. */
const WITH_DEFAULTS = /^(kasa|monteclora|velora)_config$/;

/**
 * Initialisations in PEFT that change the frozen weight and cannot be recomputed. Files of `lora_ga` lack A0 and B0, so
 * no reader has the trained model; PEFT draws the last one at random at every load.
 */
const LOST_INIT = /^(corda|loftq|lora_ga|pissa_niter_\d+)$/;

/**
 * Converts an adapter whose layers have `toLora` to PEFT's LORA format. PEFT computes a module's scaling as alpha /
 * rank, so alpha is written as scaling * rank, per module where they differ. Modules without a rank are left out and
 * named in `exclude_modules`. PEFT has no adapter without modules, so an adapter that has lost every rank is written as
 * one module of zeros.
 * @throws UnsupportedError when a layer is not a low-rank change of its weight.
 */
export function loraFile({ layers, values }: Pick<AdapterContents, 'layers' | 'values'>): AdapterFile {
  const kept = withRanks(mapValues(layers, (layer) => factorsOf(layer, values)));
  const tensors: HostTensors = {};
  for (const [path, { loraA, loraB }] of Object.entries(kept)) {
    const { kind, kernel } = (layers[path] as AdapterLayer).site;
    const names = kind === 'embedding' ? EMBEDDING : LINEAR;
    tensors[path + names.loraA] = convolutionA(transposed(loraA), kernel); // [in, r] -> [r, in]
    tensors[path + names.loraB] = convolutionB(transposed(loraB), kernel); // [r, out] -> [out, r]
  }
  return { config: loraConfig(kept, layers), tensors };
}

/** The content of a LORA file, with the names used in code. */
export interface LoraFileContents {
  /** The most common rank of a module. */
  readonly r: number;
  /** The most common alpha. A module's scaling is alpha / rank; rsLoRA's alpha / sqrt(rank) is already converted. */
  readonly loraAlpha: number;
  /** Ranks of modules that differ from `r`, by path. */
  readonly rankPattern: Readonly<Record<string, number>>;
  /** Alphas of modules that differ from `loraAlpha`, by path. */
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** The paths of the modules that have A and B. */
  readonly targetModules: string[];
  /** `<path>.loraA` [in, r] and `<path>.loraB` [r, out]. */
  readonly values: HostTensors;
}

/**
 * Reads PEFT's LORA format for linear modules, convolutions and embeddings. Ranks come from the tensors' shapes.
 * @throws CheckpointError naming the tensor or field that is missing or has an impossible shape.
 * @throws UnsupportedError when the outputs depend on more than A and B: a magnitude, a bias, or a variant of PEFT's.
 */
export function readLoraFile(file: AdapterFile): LoraFileContents {
  const { config, tensors } = file;
  assertReadable(config, tensors);
  const paths = adaptedModules(tensors, SUFFIXES);
  const values: HostTensors = {};
  const modules: Record<string, ModuleRank> = {};
  const alphas = moduleTable(config, 'alpha_pattern');
  const matrices = mapValues(tensors, factorMatrix);
  for (const path of paths) {
    const { loraA, loraB, rank: r } = readModule({ ...file, tensors: matrices }, path);
    values[`${path}.loraA`] = loraA;
    values[`${path}.loraB`] = loraB;
    modules[path] = { r, alpha: alphaOf(config, alphas(path), r) };
  }
  const usual = mostCommon(modules);
  return { r: usual.r, loraAlpha: usual.alpha, ...rankPatterns(modules, usual), targetModules: paths, values };
}

/**
 * Returns the modules that a file adapts: the paths of its tensors, whose names end in one of these suffixes.
 * @throws CheckpointError when it has none.
 * @throws UnsupportedError naming the first tensor with another name: without it the outputs would differ.
 */
export function adaptedModules(tensors: HostTensors, suffixes: readonly string[]): string[] {
  const paths = Object.keys(tensors).map((key) => {
    const suffix = suffixes.find((each) => key.endsWith(each));
    if (suffix !== undefined) return key.slice(0, -suffix.length);
    throw new UnsupportedError(
      `the adapter holds '${key}', which this method does not read: the outputs would differ without it`,
      key,
    );
  });
  const [needed = ''] = suffixes;
  if (paths.length === 0) throw new CheckpointError(`the file holds no tensor '<module>${needed}'`, needed);
  return [...new Set(paths)];
}

/** Returns a matrix of a file. @throws CheckpointError naming the tensor that is missing or not a matrix. */
export function matrixOf(tensors: HostTensors, key: string): HostTensor {
  return tensorOfAxes(tensors, key, 2, 'matrix');
}

/** Returns a vector of a file. @throws CheckpointError naming the tensor that is missing or not a vector. */
export function vectorOf(tensors: HostTensors, key: string): HostTensor {
  return tensorOfAxes(tensors, key, 1, 'vector');
}

function tensorOfAxes(tensors: HostTensors, key: string, axes: number, kind: string): HostTensor {
  const tensor = tensors[key];
  if (!tensor) throw new CheckpointError(`the tensor '${key}' is missing`, key);
  if (tensor.dtype === 'float32' && tensor.shape.length === axes) return tensor;
  throw new CheckpointError(
    `'${key}' is ${tensor.dtype} [${tensor.shape.join(', ')}]; expected a float32 ${kind}`,
    key,
  );
}

/**
 * Compares the sizes in a file's tensors with the model's module, if the file is read for a model. Ranks from shapes
 * then bound the memory that an adapter takes.
 * @throws CheckpointError naming the module.
 */
export function assertFeatures(
  { sites }: Pick<AdapterFile, 'sites'>,
  path: string,
  features: { readonly [K in 'inFeatures' | 'outFeatures']?: Site[K] | undefined },
): void {
  const site = sites?.find((each) => each.path === path);
  if (!site) return;
  const { inFeatures = site.inFeatures, outFeatures = site.outFeatures } = features;
  if (inFeatures === site.inFeatures && outFeatures === site.outFeatures) return;
  throw new CheckpointError(
    `the file's tensors of '${path}' are for ${inFeatures} inputs and ${outFeatures} outputs; in this model it has ${site.inFeatures} and ${site.outFeatures}`,
    path,
  );
}

/**
 * Checks that a configuration of PEFT's LoRA, or of a method that extends it, uses nothing unsupported.
 * @throws UnsupportedError naming the field.
 */
export function assertKnownVariant(config: AdapterFile['config']): void {
  const variant = UNKNOWN_VARIANTS.find(
    (field) => config[field] && (WITH_DEFAULTS.test(field) || !isEmpty(config[field])),
  );
  if (variant !== undefined) {
    throw new UnsupportedError(`the adapter uses '${variant}', which is not supported`, variant);
  }
  const init = config.init_lora_weights;
  if (typeof init !== 'string' || !LOST_INIT.test(init)) return;
  throw new UnsupportedError(
    `init_lora_weights is '${init}', which changed the model's weights; let PEFT convert the adapter to plain LoRA`,
    'init_lora_weights',
  );
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && Object.keys(value ?? {}).length === 0;
}

/** Returns PEFT's `fan_in_fan_out`: whether the last adapted linear module stores its weight as [in, out] on disk. */
export function fanInFanOut(sites: readonly Site[]): boolean {
  return sites.findLast(({ kind }) => kind === 'linear')?.fanInFanOut ?? false;
}

function loraConfig(kept: Readonly<Record<string, LoraFactors>>, layers: AdapterLayers): AdapterFile['config'] {
  const modules = mapValues(kept, (factors) => scaledRank(rankOf(factors), factors.scaling));
  return {
    peft_type: LORA,
    ...loraRanks(modules, layers),
    lora_dropout: 0,
    use_rslora: false,
    use_dora: false,
    bias: 'none',
    fan_in_fan_out: fanInFanOut(Object.keys(kept).map((path) => tensorAt(layers, path).site)),
    init_lora_weights: true,
  };
}

function withRanks(factors: Readonly<Record<string, LoraFactors>>): Record<string, LoraFactors> {
  const live = Object.entries(factors).filter(([, each]) => rankOf(each) > 0);
  if (live.length > 0) return Object.fromEntries(live);
  return Object.fromEntries(
    Object.entries(factors)
      .slice(0, 1)
      .map(([path, { loraA, loraB, scaling }]) => [
        path,
        { loraA: hostZeros([loraA.shape[0] as number, 1]), loraB: hostZeros([1, loraB.shape[1] as number]), scaling },
      ]),
  );
}

function rankOf({ loraA }: LoraFactors): number {
  return loraA.shape[1] as number;
}

/** Returns a rank with the alpha of a file, scaling * rank, rounded to 12 digits to remove rounding errors. */
export function scaledRank(r: number, scaling: number): ModuleRank {
  return { r, alpha: Number((scaling * r).toPrecision(12)) };
}

/**
 * Returns the fields of a LORA file, or of one like it, that name modules, their ranks and alphas.
 * @param modules those that have ranks; the other layers are excluded
 * @param usual the rank and alpha of modules that no pattern names. Default: the most common ones
 */
export function loraRanks(
  modules: Readonly<Record<string, ModuleRank>>,
  layers: AdapterLayers,
  usual = mostCommon(modules),
): AdapterFile['config'] {
  const { rankPattern, alphaPattern } = rankPatterns(modules, usual);
  const dropped = Object.keys(layers).filter((path) => !(path in modules));
  return {
    r: usual.r,
    lora_alpha: usual.alpha,
    rank_pattern: rankPattern,
    alpha_pattern: alphaPattern,
    target_modules: Object.keys(modules),
    exclude_modules: dropped.length === 0 ? null : dropped,
  };
}

/** Returns the most common rank and alpha; of equally common ones, the largest. */
function mostCommon(modules: Readonly<Record<string, ModuleRank>>): ModuleRank {
  const usual = (of: keyof ModuleRank): number => {
    const counts = new Map<number, number>();
    for (const { [of]: value } of Object.values(modules)) counts.set(value, (counts.get(value) ?? 0) + 1);
    const [first] = [...counts].sort(([a, countA], [b, countB]) => countB - countA || b - a);
    return first?.[0] ?? 0;
  };
  return { r: usual('r'), alpha: usual('alpha') };
}

function readModule(file: AdapterFile, path: string): { loraA: HostTensor; loraB: HostTensor; rank: number } {
  const { tensors } = file;
  const isEmbedding = path + EMBEDDING.loraA in tensors || path + EMBEDDING.loraB in tensors;
  const names = isEmbedding ? EMBEDDING : LINEAR;
  const loraA = matrixOf(tensors, path + names.loraA); // [r, in]
  const loraB = matrixOf(tensors, path + names.loraB); // [out, r]
  assertFeatures(file, path, { inFeatures: loraA.shape[1], outFeatures: loraB.shape[0] });
  const [rank, other] = [loraA.shape[0] as number, loraB.shape[1] as number];
  if (rank !== other) {
    const key = path + names.loraB;
    throw new CheckpointError(`'${key}' is [out, ${other}]; '${path}${names.loraA}' needs [out, ${rank}]`, key);
  }
  return { loraA: transposed(loraA), loraB: transposed(loraB), rank };
}

/** Returns the alpha for which alpha / rank is the module's scaling, with rsLoRA too. */
function alphaOf(config: AdapterFile['config'], own: number | undefined, rank: number): number {
  const alpha = own ?? config.lora_alpha;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw new CheckpointError(`lora_alpha is ${describe(alpha)}; expected a number`, 'lora_alpha');
  }
  return config.use_rslora === true ? alpha * Math.sqrt(rank) : alpha;
}

/**
 * Reads a table of numbers by module from a file's configuration, e.g. `alpha_pattern`.
 * @returns a function from a module's path to its number; undefined where the table does not name it
 * @throws CheckpointError when it is not a table of numbers, or a pattern in it is rejected: see `patternTable`.
 */
export function moduleTable(config: AdapterFile['config'], field: string): (path: string) => number | undefined {
  const table = config[field] ?? {};
  if (
    typeof table === 'object' &&
    !Array.isArray(table) &&
    Object.values(table).every((value) => typeof value === 'number')
  ) {
    return patternTable(field, table as Record<string, number>);
  }
  throw new CheckpointError(`${field} is ${describe(table)}; expected numbers by module`, field);
}

function assertReadable(config: AdapterFile['config'], tensors: HostTensors): void {
  assertKnownVariant(config);
  const field = ANNOUNCEMENTS.find((name) => config[name] === true);
  const found = field ?? Object.keys(tensors).find((key) => EXTRA_TENSORS.test(key));
  if (found === undefined) return;
  throw new UnsupportedError(
    `the adapter has '${found}', which this method does not read; it reads only A and B`,
    found,
  );
}

/*
 * The factors of a convolution. Here its kernel is a matrix [height * width * in, out], the order that TensorFlow.js
 * has in memory. In torch, A is a convolution [r, in, height, width] and B one with a 1 x 1 kernel, [out, r, 1, 1].
 */

/** Converts A `[r, height * width * in]` to torch's shape; returns it unchanged where the module has no kernel. */
export function convolutionA(loraA: HostTensor, kernel: readonly [number, number] | undefined): HostTensor {
  if (!kernel) return loraA;
  const [r, size] = loraA.shape as [number, number];
  const [height, width] = kernel;
  const channels = size / (height * width);
  return { ...swapped(loraA, [r, height * width, channels]), shape: [r, channels, height, width] };
}

/** Converts B `[out, r]` to torch's shape; returns it unchanged where the module has no kernel. */
export function convolutionB(loraB: HostTensor, kernel: readonly [number, number] | undefined): HostTensor {
  return kernel ? { ...loraB, shape: [...loraB.shape, 1, 1] } : loraB;
}

/** Converts a convolution's factor from a file to a matrix; returns any other tensor unchanged. */
export function factorMatrix(factor: HostTensor): HostTensor {
  if (factor.shape.length !== 4) return factor;
  const [rows, channels, height, width] = factor.shape as [number, number, number, number];
  return { ...swapped(factor, [rows, channels, height * width]), shape: [rows, sizeOf([channels, height, width])] };
}

/** Swaps the last two axes: [rows, a, b] -> [rows, b, a]. */
function swapped(
  { dtype, data }: HostTensor,
  [rows, a, b]: readonly [number, number, number],
): Omit<HostTensor, 'shape'> {
  const to = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < a; i++) {
      for (let j = 0; j < b; j++) to[(row * b + j) * a + i] = data[(row * a + i) * b + j] as number;
    }
  }
  return { dtype, data: to };
}
