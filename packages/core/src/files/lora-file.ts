import { valuesOf } from '../adapter/peft-model.js';
import { compactPattern } from '../adapter/budget.js';
import { describe } from '../config.js';
import { CheckpointError, UnsupportedError } from '../errors.js';
import type {
  AdapterContents,
  AdapterFile,
  AdapterLayer,
  AdapterLayers,
  LoraFactors,
  PeftMethod,
} from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { hostZeros, mapValues, sizeOf, tensorAt, transposed, type HostTensor, type HostTensors } from '../tensors.js';
import { patternTable } from './module-pattern.js';

/** PEFT's type of the format in which every low-rank change of weights is exchanged. */
export const LORA = 'LORA';

/** Whether a method reads that format. */
export function readsLora({ peftTypes }: Pick<PeftMethod, 'peftTypes'>): boolean {
  return peftTypes.includes(LORA);
}

/** What PEFT calls A and B of a module, after its path. */
interface FactorNames {
  readonly loraA: string;
  readonly loraB: string;
}

const OF_LINEAR: FactorNames = { loraA: '.lora_A.weight', loraB: '.lora_B.weight' };
const OF_EMBEDDING: FactorNames = { loraA: '.lora_embedding_A', loraB: '.lora_embedding_B' };
const SUFFIXES = [OF_LINEAR, OF_EMBEDDING].flatMap(({ loraA, loraB }) => [loraA, loraB]);

/** What PEFT can put beside A and B and changes the outputs; a method that has it takes it out before A and B are read. */
const BESIDES = /\.(lora_magnitude_vector|bias)$/;
const ANNOUNCEMENTS = ['use_dora', 'lora_bias'];

/** What PEFT can do with LoRA and no method here does: the outputs would be others. */
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

/** Starts of PEFT's that leave another frozen weight than the model's, which cannot be computed anew: PEFT draws the last by chance at every load. */
const LOST_START = /^(corda|loftq|pissa_niter_\d+)$/;

/**
 * An adapter whose layers have `toLora` as PEFT's LORA. PEFT computes a module's scaling as alpha / rank, so alpha is
 * written as scaling * rank, module by module where they differ. Modules without a rank are left out and named in
 * `exclude_modules`; PEFT has no adapter without modules, so of an adapter that has lost every rank one is written as zeros.
 * @throws UnsupportedError when a layer is no low-rank change of its weight.
 */
export function loraFile({ layers, values }: Pick<AdapterContents, 'layers' | 'values'>): AdapterFile {
  const factors: Record<string, LoraFactors> = {};
  for (const [path, layer] of Object.entries(layers)) {
    if (!layer.toLora) throw new UnsupportedError(`the adapter of '${path}' is no low-rank change of its weight`, path);
    factors[path] = layer.toLora(valuesOf(layer, values));
  }
  const kept = withRanks(factors);
  const tensors: HostTensors = {};
  for (const [path, { loraA, loraB }] of Object.entries(kept)) {
    const { kind, kernel } = (layers[path] as AdapterLayer).site;
    const names = kind === 'embedding' ? OF_EMBEDDING : OF_LINEAR;
    tensors[path + names.loraA] = convolutionA(transposed(loraA), kernel); // [in, r] -> [r, in]
    tensors[path + names.loraB] = convolutionB(transposed(loraB), kernel); // [r, out] -> [out, r]
  }
  return { config: loraConfig(kept, layers), tensors };
}

/** What a LORA file says, in the names of code. */
export interface LoraFileContents {
  readonly r: number;
  /** A module's scaling is alpha / rank; rsLoRA's alpha / sqrt(rank) is already turned into that. */
  readonly loraAlpha: number;
  readonly rankPattern: Record<string, number>;
  readonly alphaPattern: Record<string, number>;
  /** The paths of the modules that have A and B. */
  readonly targetModules: string[];
  /** `<path>.loraA` [in, r] and `<path>.loraB` [r, out]. */
  readonly values: HostTensors;
}

/**
 * Reads PEFT's LORA of linear modules, convolutions and embeddings. Ranks come from the tensors' shapes.
 * @throws CheckpointError naming the tensor or field that is missing or has an impossible shape.
 * @throws UnsupportedError when the outputs depend on more than A and B: a magnitude, a bias, a variant of PEFT's.
 */
export function readLoraFile(file: AdapterFile): LoraFileContents {
  const { config, tensors } = file;
  assertReadable(config, tensors);
  const paths = adaptedPaths(tensors, SUFFIXES);
  refuseOtherTensors(tensors, paths, SUFFIXES);
  const { loraA: needed } = OF_LINEAR;
  if (paths.length === 0) throw new CheckpointError(`the file holds no tensor '<module>${needed}'`, needed);
  const values: HostTensors = {};
  const ranks: Record<string, number> = {};
  const alphas: Record<string, number> = {};
  const alphaPattern = moduleTable(config, 'alpha_pattern');
  const matrices = mapValues(tensors, factorMatrix);
  for (const path of paths) {
    const { loraA, loraB, rank } = readModule({ ...file, tensors: matrices }, path);
    values[`${path}.loraA`] = loraA;
    values[`${path}.loraB`] = loraB;
    ranks[path] = rank;
    alphas[path] = alphaOf(config, alphaPattern(path), rank);
  }
  const [r, loraAlpha] = [mostCommon(ranks), mostCommon(alphas)];
  return {
    r,
    loraAlpha,
    rankPattern: compactPattern(ranks, r),
    alphaPattern: compactPattern(alphas, loraAlpha),
    targetModules: paths,
    values,
  };
}

/** The modules that a file adapts: the paths of the tensors that end in one of `suffixes`, each once. */
export function adaptedPaths(tensors: HostTensors, suffixes: readonly string[]): string[] {
  const paths = Object.keys(tensors).flatMap((key) => {
    const suffix = suffixes.find((each) => key.endsWith(each));
    return suffix === undefined ? [] : [key.slice(0, -suffix.length)];
  });
  return [...new Set(paths)];
}

/** A matrix of a file. @throws CheckpointError naming the tensor that is missing or is none. */
export function matrixOf(tensors: HostTensors, key: string): HostTensor {
  const tensor = tensors[key];
  if (!tensor) throw new CheckpointError(`the tensor '${key}' is missing`, key);
  if (tensor.dtype === 'float32' && tensor.shape.length === 2) return tensor;
  throw new CheckpointError(`'${key}' is ${tensor.dtype} [${tensor.shape.join(', ')}]; expected a float32 matrix`, key);
}

/**
 * Compares the sizes that a file's tensors say a module has with the model's, where the file is read for one. Only then do
 * ranks from shapes say how much memory an adapter takes.
 * @throws CheckpointError naming the module.
 */
export function assertFeatures(
  { sites }: Pick<AdapterFile, 'sites'>,
  path: string,
  features: Partial<Pick<Site, 'inFeatures' | 'outFeatures'>>,
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
 * Holds a file to have no tensors but those that the modules at `paths` have: what is left out would change the outputs.
 * @throws UnsupportedError naming the first one.
 */
export function refuseOtherTensors(tensors: HostTensors, paths: readonly string[], suffixes: readonly string[]): void {
  const known = new Set(paths.flatMap((path) => suffixes.map((suffix) => path + suffix)));
  const other = Object.keys(tensors).find((key) => !known.has(key));
  if (other === undefined) return;
  throw new UnsupportedError(
    `the adapter holds '${other}', which this method does not read: without it the outputs would be others`,
    other,
  );
}

/**
 * Holds a configuration of PEFT's LoRA, or of a method that extends it, to ask for nothing that no method here does.
 * @throws UnsupportedError naming the field.
 */
export function assertKnownVariant(config: AdapterFile['config']): void {
  const variant = UNKNOWN_VARIANTS.find((field) => config[field]);
  if (variant !== undefined) {
    throw new UnsupportedError(`the adapter uses '${variant}', which is not supported`, variant);
  }
  const init = config.init_lora_weights;
  if (typeof init !== 'string' || !LOST_START.test(init)) return;
  throw new UnsupportedError(
    `init_lora_weights is '${init}', which changed the model's weights; let PEFT convert the adapter to plain LoRA`,
    'init_lora_weights',
  );
}

/** PEFT's `fan_in_fan_out`: whether the last linear module that it adapts has its weight as [in, out] on disk. */
export function fanInFanOut(sites: readonly Site[]): boolean {
  return sites.findLast(({ kind }) => kind === 'linear')?.fanInFanOut ?? false;
}

function loraConfig(kept: Readonly<Record<string, LoraFactors>>, layers: AdapterLayers): AdapterFile['config'] {
  const entries = Object.entries(kept);
  const ranks = Object.fromEntries(entries.map(([path, factors]) => [path, rankOf(factors)]));
  const alphas = Object.fromEntries(entries.map(([path, factors]) => [path, alphaFor(factors)]));
  const dropped = Object.keys(layers).filter((path) => !(path in kept));
  const [r, alpha] = [mostCommon(ranks), mostCommon(alphas)];
  return {
    peft_type: LORA,
    r,
    lora_alpha: alpha,
    rank_pattern: compactPattern(ranks, r),
    alpha_pattern: compactPattern(alphas, alpha),
    target_modules: Object.keys(kept),
    exclude_modules: dropped.length === 0 ? null : dropped,
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

/** scaling * rank, without the last digits that rounding leaves. */
function alphaFor(factors: LoraFactors): number {
  return Number((factors.scaling * rankOf(factors)).toPrecision(12));
}

/** The value that most modules have; the greatest of several. */
function mostCommon(values: Readonly<Record<string, number>>): number {
  const counts = new Map<number, number>();
  for (const value of Object.values(values)) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [first] = [...counts].sort(([a, countA], [b, countB]) => countB - countA || b - a);
  return first?.[0] ?? 0;
}

function readModule(file: AdapterFile, path: string): { loraA: HostTensor; loraB: HostTensor; rank: number } {
  const { tensors } = file;
  const ofEmbedding = path + OF_EMBEDDING.loraA in tensors || path + OF_EMBEDDING.loraB in tensors;
  const names = ofEmbedding ? OF_EMBEDDING : OF_LINEAR;
  const loraA = matrixOf(tensors, path + names.loraA); // [r, in]
  const loraB = matrixOf(tensors, path + names.loraB); // [out, r]
  assertFeatures(file, path, { inFeatures: loraA.shape[1] as number, outFeatures: loraB.shape[0] as number });
  const [rank, other] = [loraA.shape[0] as number, loraB.shape[1] as number];
  if (rank !== other) {
    const key = path + names.loraB;
    throw new CheckpointError(`'${key}' is [out, ${other}]; '${path}${names.loraA}' asks for [out, ${rank}]`, key);
  }
  return { loraA: transposed(loraA), loraB: transposed(loraB), rank };
}

/** The alpha of alpha / rank. */
function alphaOf(config: AdapterFile['config'], own: number | undefined, rank: number): number {
  const alpha = own ?? config.lora_alpha;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw new CheckpointError(`lora_alpha is ${describe(alpha)}; expected a number`, 'lora_alpha');
  }
  return config.use_rslora === true ? alpha * Math.sqrt(rank) : alpha;
}

/**
 * A table of numbers by module of a file's configuration, e.g. `alpha_pattern`.
 * @returns what a module's path is looked up with; undefined where the table does not name it
 * @throws CheckpointError when it is no table of numbers, or a pattern in it is refused: see `patternTable`.
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
  const found = field ?? Object.keys(tensors).find((key) => BESIDES.test(key));
  if (found === undefined) return;
  throw new UnsupportedError(
    `the adapter has '${found}', which this method does not read; it reads A and B alone`,
    found,
  );
}

/*
 * The factors of a convolution. Here its kernel is a matrix [height * width * in, out], as TensorFlow.js has the numbers in
 * memory; torch has A as a convolution [r, in, height, width] and B as one of a single place, [out, r, 1, 1].
 */

/** A `[r, height * width * in]` as torch holds it; as it is where the module has no kernel. */
export function convolutionA(loraA: HostTensor, kernel: readonly [number, number] | undefined): HostTensor {
  if (!kernel) return loraA;
  const [r, size] = loraA.shape as [number, number];
  const [height, width] = kernel;
  const channels = size / (height * width);
  return { ...swapped(loraA, [r, height * width, channels]), shape: [r, channels, height, width] };
}

/** B `[out, r]` as torch holds it; as it is where the module has no kernel. */
export function convolutionB(loraB: HostTensor, kernel: readonly [number, number] | undefined): HostTensor {
  return kernel ? { ...loraB, shape: [...loraB.shape, 1, 1] } : loraB;
}

/** A factor of a file: that of a convolution as the matrix it is here, every other tensor as it is. */
export function factorMatrix(factor: HostTensor): HostTensor {
  if (factor.shape.length !== 4) return factor;
  const [rows, channels, height, width] = factor.shape as [number, number, number, number];
  return { ...swapped(factor, [rows, channels, height * width]), shape: [rows, sizeOf([channels, height, width])] };
}

/** The numbers with the last two axes exchanged: [rows, a, b] -> [rows, b, a]. */
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
