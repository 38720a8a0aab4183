import type { Executor } from '@peftjs/core';
import { ConfigError, type PeftMethod } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import {
  pipeline as openPipeline,
  type PipelineOptions as AllOptions,
  type Pipelines,
  type PipelineSource,
} from '@peftjs/pipelines';
import { methods as ownMethods } from './methods.js';

/** What a pipeline is made with: the options of @peftjs/pipelines, of which none is required in Node. */
export interface PipelineOptions extends Omit<AllOptions, 'methods' | 'executor'> {
  /** Methods that adapters may have been made with, beside those of this package. */
  readonly methods?: readonly PeftMethod[];
  /** What computes. Default in Node: `compiled()`. A page gives `compiled({ runtime: await import('onnxruntime-web') })`. */
  readonly executor?: Executor;
}

/**
 * Loads an adapter with its base model, or a model, as a function for a task: `pipeline` of @peftjs/pipelines with every method of this
 * package and, in Node, `compiled()`.
 *
 * @param task 'text-classification', 'token-classification', 'feature-extraction', 'text-generation' or 'text-ranking'.
 * @param source the folder or hub id of an adapter or a model, a model, or one with adapters.
 * @throws ConfigError for an unknown task or option, and in a page without an executor.
 * @throws CheckpointError for an adapter or a model that is missing or broken.
 * @example
 * const classify = await pipeline('text-classification', 'my-adapter');
 * await classify(['Where is it?', 'Who was it?'], { topK: 2 }); // [[{ label, score }, ..], ..]
 * await classify.dispose();
 */
export async function pipeline<T extends keyof Pipelines>(
  task: T,
  source: PipelineSource,
  { methods = [], executor = usualExecutor(), ...options }: PipelineOptions = {},
): Promise<Pipelines[T]> {
  return openPipeline(task, source, { ...options, methods: withOurs(methods), executor });
}

/** Methods of the caller's before ours of the same name. What is no list is refused where all options are. */
function withOurs(methods: readonly PeftMethod[]): readonly PeftMethod[] {
  const given: unknown = methods;
  if (!Array.isArray(given)) return methods;
  const names = methods.map(({ name }) => name);
  return [...methods, ...ownMethods.filter(({ name }) => !names.includes(name))];
}

/** @throws ConfigError in a page. */
function usualExecutor(): Executor {
  const { process } = globalThis as { readonly process?: { readonly versions?: { readonly node?: string } } };
  if (process?.versions?.node !== undefined) return compiled();
  throw new ConfigError(
    "pipeline: expected the option 'executor' in a page, e.g. compiled({ runtime: await import('onnxruntime-web') })",
    'executor',
  );
}
