import { Tensor as CommonTensor } from 'onnxruntime-common';
import type { InferenceSession } from 'onnxruntime-common';
import { ConfigError, EngineError } from '@peftjs/core';
import type { CompiledFunction, Executor, HostTensor, TensorSpec } from '@peftjs/core';
import { checkHostTensor, checkInputs } from '../checks.js';
import { availableThreads } from '../host.js';
import { loadRuntime } from './runtime.js';
import type { ExecutionProvider, OrtRuntime, OrtTensor } from './runtime.js';
import { trace } from './trace.js';
import type { TracedGraph } from './trace.js';

/** Options of {@link compiled}. */
export interface CompiledOptions {
  /** Threads of one run; all the machine has when left out. It changes the last bits of a result. */
  readonly threads?: number;
  /** ONNX Runtime to use, e.g. onnxruntime-web in a page; onnxruntime-node when left out. */
  readonly runtime?: OrtRuntime;
  /** Where ONNX Runtime computes, best first; 'cpu' in Node, 'wasm' for another runtime when left out. */
  readonly executionProviders?: readonly ExecutionProvider[];
}

/**
 * The executor that traces a pure function, its gradients included, into one ONNX graph and runs that. Tensors are passed
 * by reference: a frozen weight is uploaded once and shared by every function compiled.
 *
 * @throws ConfigError when `threads` is not a positive whole number.
 */
export function compiled(options: CompiledOptions = {}): Executor<OrtTensor> {
  const { threads = availableThreads(), runtime } = options;
  if (!Number.isInteger(threads) || threads < 1) {
    throw new ConfigError(`threads must be a positive whole number, got ${threads}`, 'threads');
  }
  const executionProviders = options.executionProviders ?? [runtime === undefined ? 'cpu' : 'wasm'];
  const [provider = 'cpu'] = executionProviders;
  const Tensor = runtime?.Tensor ?? CommonTensor;
  return {
    info: { executor: 'compiled', backend: typeof provider === 'string' ? provider : provider.name, threads },
    upload(tensor) {
      checkHostTensor(tensor);
      return new Tensor(tensor.dtype, tensor.data, tensor.shape);
    },
    download,
    release(value) {
      value.dispose();
    },
    async compile(fn, inputs) {
      const start = performance.now();
      const graph = await trace(fn, inputs);
      const session = await open(runtime ?? (await loadRuntime()), graph, {
        executionProviders,
        intraOpNumThreads: threads,
        ...SESSION,
      });
      return compiledFunction(session, graph, inputs, performance.now() - start);
    },
  };
}

const SESSION: InferenceSession.SessionOptions = {
  graphOptimizationLevel: 'all',
  executionMode: 'sequential',
  interOpNumThreads: 1,
  // Nothing of ONNX Runtime goes to stderr: its errors are thrown, its warnings are nothing a user can act on.
  logSeverityLevel: 4,
  // Threads of a session that has just run would otherwise spin on, in the way of the next one: another length, evaluation.
  extra: { session: { force_spinning_stop: '1' } },
};

async function open(
  runtime: OrtRuntime,
  graph: TracedGraph,
  options: InferenceSession.SessionOptions,
): Promise<InferenceSession> {
  try {
    return await runtime.InferenceSession.create(graph.bytes(), options);
  } catch (cause) {
    throw new EngineError(
      `ONNX Runtime refused a graph of ${graph.nodes.length} nodes: ${reason(cause)}`,
      undefined,
      cause,
    );
  }
}

function compiledFunction(
  session: InferenceSession,
  graph: TracedGraph,
  specs: Readonly<Record<string, TensorSpec>>,
  compileMs: number,
): CompiledFunction<OrtTensor> {
  const running = new Set<Promise<unknown>>();
  let isDisposed = false;
  return {
    compileMs,
    async run(inputs) {
      if (isDisposed) throw new EngineError('this compiled function was disposed; compile it again');
      checkInputs(specs, inputs, specOf);
      const run = session.run(
        Object.fromEntries(graph.inputs.map(({ key, name }) => [name, inputs[key] as OrtTensor])),
      );
      running.add(run);
      try {
        const results = await run;
        return Object.fromEntries(graph.outputs.map(({ key, name }) => [key, results[name] as OrtTensor]));
      } catch (cause) {
        throw new EngineError(`ONNX Runtime failed: ${reason(cause)}`, undefined, cause);
      } finally {
        running.delete(run);
      }
    },
    async dispose() {
      if (isDisposed) return;
      isDisposed = true;
      await Promise.allSettled(running);
      await session.release();
    },
  };
}

async function download(value: OrtTensor): Promise<HostTensor> {
  if (specOf(value) === undefined) throw new EngineError('this value was released; download it before that');
  const data = await value.getData();
  const shape = [...value.dims];
  if (data instanceof Float32Array) return { dtype: 'float32', shape, data };
  if (data instanceof Int32Array) return { dtype: 'int32', shape, data };
  throw new EngineError(`a value must be float32 or int32 to be downloaded, got ${value.type}`);
}

function specOf(value: OrtTensor): { dtype: string; shape: readonly number[] } | undefined {
  if (!('dims' in value) || value.location === 'none') return undefined;
  return { dtype: value.type, shape: value.dims };
}

function reason(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
