import type { Executor, Model } from '@peftjs/core';
import {
  assertKnownOptions,
  ConfigError,
  describe,
  didYouMean,
  integerFrom,
  parseOptions,
  type PeftMethod,
  type Task,
} from '@peftjs/core/method';
import type { PretrainedOptions, Tokenizer } from '@peftjs/models';
import * as v from 'valibot';
import { openEmbedding, type FeatureExtractor } from './feature-extraction.js';
import { openInference, type Inference } from './inference.js';
import { openSource, type PipelineSource } from './source.js';
import { classify, type TextClassifier } from './text-classification.js';
import { openWriting, type TextGenerationPipeline } from './text-generation.js';
import { assertCrossEncoder, rank, type TextRanker } from './text-ranking.js';
import { tag, type TokenClassifier } from './token-classification.js';

/** The pipelines by task. */
export interface Pipelines {
  readonly 'text-classification': TextClassifier;
  readonly 'token-classification': TokenClassifier;
  readonly 'feature-extraction': FeatureExtractor;
  readonly 'text-generation': TextGenerationPipeline;
  readonly 'text-ranking': TextRanker;
}

/** What a pipeline is made with; how models are found and read is as `fromPretrained` of @peftjs/models has it. */
export interface PipelineOptions extends Omit<PretrainedOptions, 'task' | 'numLabels'> {
  /** The methods that adapters may have been made with, e.g. `[lora, sora]`. */
  readonly methods: readonly PeftMethod[];
  /** What computes, e.g. `compiled()` of @peftjs/engine. */
  readonly executor: Executor;
  /** The base model of an adapter. Default: the one that the adapter names. */
  readonly model?: string | Model;
  /** Adapters beside the source's own, by the names that calls choose them by: folders or hub ids. */
  readonly adapters?: Readonly<Record<string, string>>;
  /** Default: that of the model. */
  readonly tokenizer?: Tokenizer;
  /** Most tokens of a text; a longer one loses its end. Default, and never exceeded: what the model reads. */
  readonly maxTokens?: number;
  /** Texts that run together, at most. Default 16. */
  readonly batchSize?: number;
}

/** A pipeline's function, and what gives up what it holds. */
interface Opened {
  readonly call: (...given: never[]) => Promise<unknown>;
  readonly release: () => Promise<void>;
}

/** What a task is made of. */
interface Kind {
  /** The task of its model. */
  readonly task: Task;
  open(inference: Inference): Opened;
}

const KINDS: Readonly<Record<keyof Pipelines, Kind>> = {
  'text-classification': {
    task: 'sequence-classification',
    open: (inference) => ({
      call: (texts: unknown, options: unknown) => classify(inference, texts, options),
      release: () => inference.release(),
    }),
  },
  'token-classification': {
    task: 'token-classification',
    open: (inference) => ({
      call: (texts: unknown, options: unknown) => tag(inference, texts, options),
      release: () => inference.release(),
    }),
  },
  'feature-extraction': {
    task: 'feature-extraction',
    open(inference) {
      const { embed, release } = openEmbedding(inference);
      return { call: embed, release };
    },
  },
  'text-generation': {
    task: 'causal-lm',
    open(inference) {
      const { write, release } = openWriting(inference);
      return { call: write, release };
    },
  },
  'text-ranking': {
    task: 'sequence-classification',
    open(inference) {
      assertCrossEncoder(inference);
      return {
        call: (query: unknown, documents: unknown, options: unknown) => rank(inference, query, documents, options),
        release: () => inference.release(),
      };
    },
  },
};

const OWN = ['methods', 'executor', 'model', 'adapters', 'tokenizer', 'maxTokens', 'batchSize'];
const OF_LOADING = [
  'storage',
  'resolvePackage',
  'subfolder',
  'modelTypes',
  'formats',
  'revision',
  'cacheDir',
  'cache_dir',
  'localFilesOnly',
  'local_files_only',
  'hubUrl',
  'progressCallback',
  'progress_callback',
  'labels',
  'problemType',
  'pooling',
  'normalize',
  'onProgress',
  'memoryLimit',
  'dtype',
];

const settings = {
  adapters: v.optional(v.record(v.string(), v.string()), {}),
  maxTokens: v.optional(integerFrom(1)),
  batchSize: v.optional(integerFrom(1), 16),
};

/**
 * Loads an adapter with its base model, or a model, as a function for a task. What it prepares at its first call it keeps until it is
 * disposed.
 *
 * @param source the folder or hub id of an adapter, whose base model, labels and problem type its configuration names; the folder,
 * package or hub id of a model, e.g. a merged one; a model; or one with adapters, of which the active ones act.
 * @throws ConfigError for an unknown task or option, a source for another task, and an adapter that names no base model.
 * @throws CheckpointError for an adapter or a model that is missing or broken.
 * @throws UnsupportedError for a model without a tokenizer.
 * @example
 * const classify = await pipeline('text-classification', 'my-adapter', { methods: [lora], executor: compiled() });
 * await classify('Where is it?'); // [{ label: 'LOC', score: 0.98 }]
 * await classify(['Where is it?', 'Who was it?'], { topK: 2 }); // [[{ label, score }, ..], ..]
 * await classify.dispose();
 */
export async function pipeline<T extends keyof Pipelines>(
  task: T,
  source: PipelineSource,
  options: PipelineOptions,
): Promise<Pipelines[T]> {
  if (!Object.hasOwn(KINDS, task)) {
    const known = Object.keys(KINDS);
    throw new ConfigError(
      `pipeline: there is no task ${describe(task)}${didYouMean(task, known)}; expected ${known.join(', ')}`,
      'task',
    );
  }
  assertKnownOptions('pipeline', options, [...OWN, ...OF_LOADING]);
  const { methods, executor, model, adapters, tokenizer, maxTokens, batchSize, ...loading } = options;
  assertGiven('methods', Array.isArray(methods), "a list of methods, e.g. [lora] of '@peftjs/lora'", methods);
  assertGiven('executor', isExecutor(executor), "an executor, e.g. compiled() of '@peftjs/engine'", executor);
  const own = parseOptions('pipeline', settings, defined({ adapters, maxTokens, batchSize }));
  const kind = KINDS[task];
  const opened = await openSource(kind.task, source, { methods, model, tokenizer, adapters: own.adapters, loading });
  const { maxTokens: most = Infinity } = 'adapters' in opened.acting ? opened.acting.model : opened.acting;
  const inference = openInference({
    task,
    ...opened,
    executor,
    batchSize: own.batchSize,
    maxTokens: Math.min(own.maxTokens ?? Infinity, most),
  });
  try {
    return callable(task, kind.open(inference)) as Pipelines[T];
  } catch (error) {
    await inference.release();
    throw error;
  }
}

function assertGiven(option: string, isGiven: boolean, expected: string, value: unknown): void {
  if (isGiven) return;
  throw new ConfigError(`pipeline: option '${option}' is ${describe(value)}; expected ${expected}`, option);
}

function isExecutor(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'compile' in value && 'upload' in value;
}

function defined(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** The function of a pipeline. It is disposed of once the calls that run have ended, and refuses others from then on. */
function callable(task: string, { call, release }: Opened): unknown {
  const running = new Set<Promise<unknown>>();
  let disposed: Promise<void> | undefined;
  const run = async (...given: unknown[]): Promise<unknown> => {
    if (disposed) throw new ConfigError(`the pipeline '${task}' was disposed of: make a new one`, 'dispose');
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
