import type { Executor, Model } from '@peftjs/core';
import { ConfigError, describe, integerFrom, parseOptions, type PeftMethod } from '@peftjs/core/method';
import { anything, didYouMean, objectLike, type Task } from '@peftjs/core/model';
import { isNode, pretrainedOptionNames, type PretrainedOptions, type Tokenizer } from '@peftjs/models';
import * as v from 'valibot';
import { openEmbedding, type FeatureExtractor } from './feature-extraction.js';
import type { ImageClassifier } from './image-classification.js';
import { networkOf, openInference, type Inference } from './inference.js';
import { sharing } from './shared-batches.js';
import { openSource, type PipelineSource } from './source.js';
import { classify, type TextClassifier } from './text-classification.js';
import { write, type TextGenerationPipeline } from './text-generation.js';
import { assertCrossEncoder, rank, type TextRanker } from './text-ranking.js';
import { tag, type TokenClassifier } from './token-classification.js';

/** The pipelines by task. */
export interface Pipelines {
  /** Returns labels for texts. */
  readonly 'text-classification': TextClassifier;
  /** Returns entities in texts. */
  readonly 'token-classification': TokenClassifier;
  /** Returns embeddings of texts or tokens. */
  readonly 'feature-extraction': FeatureExtractor;
  /** Continues texts and answers conversations. */
  readonly 'text-generation': TextGenerationPipeline;
  /** Returns labels for images. */
  readonly 'image-classification': ImageClassifier;
  /** Ranks documents for a query. */
  readonly 'text-ranking': TextRanker;
}

/** Options of a pipeline. Those of loading a model are the same as for `fromPretrained` of @peftjs/models. */
export interface PipelineOptions extends Omit<PretrainedOptions, 'task' | 'numLabels'> {
  /** The methods of the adapters to load, e.g. `[lora, sora]`. */
  readonly methods: readonly PeftMethod[];
  /** The executor that runs the model, e.g. `compiled()` of @peftjs/engine. */
  readonly executor: Executor;
  /** The base model of an adapter. Default: the one named in the adapter's configuration. */
  readonly model?: string | Model;
  /** Additional adapters: folders or hub IDs, by the names used in calls. Default: none. */
  readonly adapters?: Readonly<Record<string, string>>;
  /** The tokenizer. Default: the model's, with the chat template in an adapter's folder where it has one. */
  readonly tokenizer?: Tokenizer;
  /**
   * The maximum number of tokens per text: longer texts are truncated. Default, and upper limit: the model's. Not for
   * text generation, which reads whole prompts.
   */
  readonly maxTokens?: number;
  /** The maximum number of texts per batch. Default 16. */
  readonly batchSize?: number;
  /**
   * Whether texts of calls that wait for a running one share its next batches: calls of fewer texts than `batchSize`,
   * each with its own adapter. An idle pipeline starts at once. Text generation, and embeddings with another pooling
   * than the model's own, run alone. Default: true in Node, false in browsers.
   */
  readonly shareBatches?: boolean;
}

/** A pipeline's function, and the function that frees its resources. Default: frees the model. */
interface Opened {
  readonly call: (...given: never[]) => Promise<unknown>;
  readonly release?: () => Promise<void>;
}

/** How a task's pipeline is opened. */
interface Kind {
  /** The task of its model. */
  readonly task: Task;
  readonly open: (inference: Inference) => Opened;
  /** Whether it reads images: what that needs is loaded for no other task. */
  readonly readsImages?: boolean;
}

/** Opens a pipeline whose function is `run`. */
function running(run: (inference: Inference, ...given: unknown[]) => Promise<unknown>): Kind['open'] {
  return (inference) => ({ call: (...given) => run(inference, ...given) });
}

const KINDS: Readonly<Record<keyof Pipelines, Kind>> = {
  'text-classification': { task: 'sequence-classification', open: running(classify) },
  'image-classification': { task: 'sequence-classification', open: running(classify), readsImages: true },
  'token-classification': { task: 'token-classification', open: running(tag) },
  'feature-extraction': { task: 'feature-extraction', open: openEmbedding },
  'text-generation': { task: 'causal-lm', open: running(write) },
  'text-ranking': {
    task: 'sequence-classification',
    open(inference) {
      assertCrossEncoder(inference);
      return running(rank)(inference);
    },
  },
};

/** Other names that transformers.js has for tasks. */
const TASK_ALIASES: ReadonlyMap<string, keyof Pipelines> = new Map([
  ['embeddings', 'feature-extraction'],
  ['ner', 'token-classification'],
  ['sentiment-analysis', 'text-classification'],
]);

const loadingOptions = pretrainedOptionNames.filter((name) => name !== 'task' && name !== 'numLabels');

const settings = {
  methods: v.custom<readonly PeftMethod[]>(Array.isArray, 'a list of methods of the adapters'),
  executor: objectLike<Executor>("an executor, e.g. compiled() of '@peftjs/engine'", {
    compile: 'function',
    upload: 'function',
  }),
  model: anything,
  adapters: v.optional(v.record(v.string(), v.string())),
  tokenizer: anything,
  maxTokens: v.optional(integerFrom(1)),
  batchSize: v.optional(integerFrom(1)),
  shareBatches: v.optional(v.boolean()),
  ...Object.fromEntries(loadingOptions.map((name) => [name, anything])), // of `fromPretrained`, which checks them
};

/**
 * Loads an adapter with its base model, or a model, and returns a function for a task. The function prepares the model
 * at its first call and keeps it prepared until it is disposed.
 *
 * @param source The folder or hub ID of an adapter, whose configuration names its base model, labels and problem type;
 * the folder, package or hub ID of a model, e.g. a merged one; a model; or a model with adapters, of which the active
 * ones apply.
 * @throws ConfigError for an unknown task or option, an option or a source for another task, or an adapter without a
 * base model.
 * @throws CheckpointError for an adapter or a model that is missing or broken.
 * @throws UnsupportedError for a model without a tokenizer.
 * @example
 * const classify = await pipeline('text-classification', 'my-adapter', { methods: [lora], executor: compiled() });
 * await classify('Where is it?'); // [{ label: 'LOC', score: 0.98 }]
 * await classify(['Where is it?', 'Who was it?'], { topK: 2 }); // [[{ label, score }, ..], ..]
 * await classify.dispose();
 */
export async function pipeline<T extends keyof Pipelines>(
  name: T,
  source: PipelineSource,
  options: PipelineOptions,
): Promise<Pipelines[T]> {
  const task = TASK_ALIASES.get(name) ?? name;
  if (!Object.hasOwn(KINDS, task)) {
    const known = Object.keys(KINDS);
    throw new ConfigError(
      `pipeline: there is no task ${describe(task)}${didYouMean(task, known)}; expected ${known.join(', ')}`,
      'task',
    );
  }
  parseOptions('pipeline', settings, options);
  const {
    methods,
    executor,
    model,
    adapters = {},
    tokenizer,
    maxTokens = Infinity,
    batchSize = 16,
    shareBatches = isNode(),
    ...loading
  } = options;
  if (task === 'text-generation' && options.maxTokens !== undefined) {
    throw new ConfigError(
      `${task} reads whole prompts: leave out 'maxTokens', or set 'maxNewTokens' in calls`,
      'maxTokens',
    );
  }
  const kind = KINDS[task];
  const opened = await openSource(kind.task, source, { methods, model, tokenizer, adapters, loading });
  const { maxTokens: most = Infinity } = networkOf(opened.loadedModel);
  const images = kind.readsImages
    ? (await import('./images.js')).imageParts(task, opened.loadedModel, batchSize)
    : undefined;
  const alone = openInference({
    task,
    images,
    ...opened,
    executor,
    batchSize,
    shareBatches,
    maxTokens: Math.min(maxTokens, most),
    asked: loading,
  });
  const inference = { ...alone, answers: sharing(alone, alone.answers) };
  try {
    const { call, release = () => inference.release() } = kind.open(inference);
    return callable(task, call, release) as Pipelines[T];
  } catch (error) {
    await inference.release();
    throw error;
  }
}

/** Returns the function of a pipeline. `dispose` waits for running calls, and later calls are rejected. */
function callable(task: string, call: Opened['call'], release: () => Promise<void>): unknown {
  const running = new Set<Promise<unknown>>();
  let disposed: Promise<void> | undefined;
  const run = async (...given: unknown[]): Promise<unknown> => {
    if (disposed) throw new ConfigError(`the pipeline '${task}' was disposed: create a new one`, 'dispose');
    const result = call(...(given as never[]));
    running.add(result);
    try {
      return await result;
    } finally {
      running.delete(result);
    }
  };
  const dispose = (): Promise<void> => {
    disposed ??= Promise.allSettled([...running]).then(release);
    return disposed;
  };
  return Object.assign(run, { dispose });
}
