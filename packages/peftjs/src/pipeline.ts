import type { Executor } from '@peftjs/core';
import { ConfigError, type PeftMethod } from '@peftjs/core/method';
import { aRecord, assertArgument } from '@peftjs/core/model';
import { compiled } from '@peftjs/engine';
import { isNode } from '@peftjs/models';
import {
  pipeline as openPipeline,
  type PipelineOptions as AllOptions,
  type Pipelines,
  type PipelineSource,
} from '@peftjs/pipelines';
import { methods as ownMethods } from './methods.js';
import { withGraphs } from './models.js';

/** The options of a pipeline: those of @peftjs/pipelines, none of which is required in Node. */
export interface PipelineOptions extends Omit<AllOptions, 'methods' | 'executor'> {
  /** Additional methods for adapters that this package's methods cannot open. Default []. */
  readonly methods?: readonly PeftMethod[];
  /**
   * The executor. Default in Node: `compiled()`. A web page must pass
   * `compiled({ runtime: await import('onnxruntime-web/wasm') })`.
   */
  readonly executor?: Executor;
}

/**
 * Loads a model, or an adapter with its base model, as a function for a task. This is `pipeline` of @peftjs/pipelines
 * with all methods of this package, ONNX graphs as base models and, in Node, `compiled()`.
 *
 * @param task 'text-classification', 'token-classification', 'feature-extraction', 'text-generation', 'text-ranking' or
 * 'image-classification'.
 * @param source the folder or hub id of an adapter or a model, a model object, or a model with adapters attached.
 * @param options methods, executor and the options of @peftjs/pipelines.
 * @throws ConfigError for an unknown task or option, and in a web page without an executor.
 * @throws CheckpointError for a missing or broken adapter or model.
 * @example
 * const classify = await pipeline('text-classification', 'my-adapter');
 * await classify(['Where is it?', 'Who was it?'], { topK: 2 }); // [[{ label, score }, ..], ..]
 * await classify.dispose();
 */
export async function pipeline<T extends keyof Pipelines>(
  task: T,
  source: PipelineSource,
  options: PipelineOptions = {},
): Promise<Pipelines[T]> {
  assertArgument('options', options, aRecord);
  const { methods = [], executor = usualExecutor(), ...others } = options;
  return openPipeline(task, source, { ...withGraphs(others), methods: withOurs(methods), executor });
}

/**
 * Adds this package's methods, unless the caller's have the same name. `openPipeline` rejects a value that is no list.
 */
function withOurs(methods: readonly PeftMethod[]): readonly PeftMethod[] {
  const given: unknown = methods;
  if (!Array.isArray(given)) return methods;
  const names = methods.map(({ name }) => name);
  return [...methods, ...ownMethods.filter(({ name }) => !names.includes(name))];
}

/** Returns the default executor. @throws ConfigError in a web page. */
function usualExecutor(): Executor {
  if (isNode()) return compiled();
  throw new ConfigError(
    "pipeline: expected the option 'executor' in a page, e.g. compiled({ runtime: await import('onnxruntime-web/wasm') })",
    'executor',
  );
}
