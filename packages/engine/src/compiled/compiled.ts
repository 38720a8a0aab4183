import { Tensor as CommonTensor } from 'onnxruntime-common';
import type { InferenceSession } from 'onnxruntime-common';
import { ConfigError, EngineError } from '@peftjs/core';
import type { CompiledFunction, Executor, HostBytes, HostTensor, TensorSpec } from '@peftjs/core';
import { checkHostTensor, checkInputs } from '../checks.js';
import { availableThreads } from '../host.js';
import { deviceMemory, hasMemory } from './device.js';
import type { DeviceMemory } from './device.js';
import { exactBytes, raised } from './integer-products.js';
import { checkProviders, openGraph, providerName, reasonOf } from './open.js';
import { loadRuntime } from './runtime.js';
import type { ExecutionProvider, OrtRuntime, OrtTensor } from './runtime.js';
import { STANDARD_TRACE_BACKEND, TRACE_BACKEND } from './trace-backend.js';
import { traceOn } from './trace.js';
import type { TracedGraph } from './trace.js';

/** Options of {@link compiled}. */
export interface CompiledOptions {
  /** Threads of one run; all the machine has when left out. It changes the last bits of a result. */
  readonly threads?: number;
  /** ONNX Runtime to use, e.g. onnxruntime-web in a page; onnxruntime-node when left out. */
  readonly runtime?: OrtRuntime;
  /** Where ONNX Runtime computes, best first; 'cpu' in Node, 'wasm' for another runtime when left out. */
  readonly executionProviders?: readonly ExecutionProvider[];
  /**
   * Whether every compiled function keeps the memory of its runs for its next one. Without that it goes back to the process after each
   * run: for a model that is trained on batches of many lengths about half the memory, for some 5 % more time, and the same numbers.
   * Default true.
   */
  readonly memoryArena?: boolean;
}

/**
 * The executor that traces a pure function, its gradients included, into one ONNX graph and runs that. Tensors are passed
 * by reference: a frozen weight is uploaded once and shared by every function compiled.
 *
 * @throws ConfigError when `threads` is not a positive whole number, `executionProviders` no list of names, or `memoryArena` neither
 * true nor false.
 */
export function compiled(options: CompiledOptions = {}): Executor<OrtTensor> {
  const { threads = availableThreads(), runtime, memoryArena = true } = options;
  if (!Number.isInteger(threads) || threads < 1) {
    throw new ConfigError(`threads must be a positive whole number, got ${threads}`, 'threads');
  }
  if (typeof memoryArena !== 'boolean') {
    throw new ConfigError(`memoryArena must be true or false, got ${String(memoryArena)}`, 'memoryArena');
  }
  const executionProviders = options.executionProviders ?? [runtime === undefined ? 'cpu' : 'wasm'];
  checkProviders(executionProviders);
  const [provider = 'cpu'] = executionProviders;
  const backend = providerName(provider);
  const Tensor = runtime?.Tensor ?? CommonTensor;
  const load = async (): Promise<OrtRuntime> => runtime ?? loadRuntime();
  const memory = hasMemory(provider) ? deviceMemory(load, executionProviders) : undefined;
  return {
    info: { executor: 'compiled', backend, threads },
    upload(tensor) {
      checkHostTensor(tensor);
      return new Tensor(tensor.dtype, tensor.data, tensor.shape);
    },
    ...(MULTIPLIES_BYTES.includes(backend) && {
      uploadBytes: ({ data, shape }: HostBytes) => new Tensor('int8', data, shape),
    }),
    download: (value) => download(value, memory),
    release(value) {
      memory?.release(value);
      value.dispose();
    },
    async compile(fn, inputs) {
      const start = performance.now();
      const ort = await load();
      await memory?.open();
      const readsBytes = Object.values(inputs).some(({ dtype }) => dtype === 'int8');
      // What a root-mean-square norm of ONNX Runtime's own returns besides y is on WebGPU the mean, not 1 / rms (1.30).
      const table = memory ? STANDARD_TRACE_BACKEND : TRACE_BACKEND;
      const graph = await traceOn(table, fn, inputs, readsBytes ? await exactBytes(ort) : 'int8');
      const session = await openGraph(ort, graph, {
        executionProviders,
        intraOpNumThreads: threads,
        enableCpuMemArena: memoryArena,
        ...(memory && { preferredOutputLocation: memory.locations(graph.outputs) }),
        ...SESSION,
      });
      return compiledFunction({ session, graph, memory, specs: inputs }, performance.now() - start);
    },
  };
}

/** Providers with ONNX Runtime's own product of integers; the others would bring every weight back to the processor for it. */
const MULTIPLIES_BYTES: readonly string[] = ['cpu', 'wasm'];

const SESSION: InferenceSession.SessionOptions = {
  graphOptimizationLevel: 'all',
  executionMode: 'sequential',
  interOpNumThreads: 1,
  // A second run would otherwise plan its memory in one piece, beside the pieces that the first one leaves: no faster, a fifth larger.
  enableMemPattern: false,
  // Nothing of ONNX Runtime goes to stderr: its errors are thrown, its warnings are nothing a user can act on.
  logSeverityLevel: 4,
  // Threads of a session that has just run would otherwise spin on, in the way of the next one: another length, evaluation.
  extra: { session: { force_spinning_stop: '1' } },
};

/** What a compiled function is made of. */
interface Parts {
  readonly session: InferenceSession;
  readonly graph: TracedGraph;
  readonly memory: DeviceMemory | undefined;
  readonly specs: Readonly<Record<string, TensorSpec>>;
}

function compiledFunction(parts: Parts, compileMs: number): CompiledFunction<OrtTensor> {
  const { session, graph, specs } = parts;
  const running = new Set<Promise<unknown>>();
  let isDisposed = false;
  return {
    compileMs,
    async run(inputs) {
      if (isDisposed) throw new EngineError('this compiled function was disposed; compile it again');
      checkInputs(specs, inputs, specOf);
      const run = fed(parts, inputs).then((feeds) => session.run(feeds));
      running.add(run);
      try {
        const results = await run;
        return Object.fromEntries(graph.outputs.map(({ key, name }) => [key, results[name] as OrtTensor]));
      } catch (cause) {
        throw new EngineError(`ONNX Runtime failed: ${reasonOf(cause)}`, undefined, cause);
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

/** The graph's inputs by its own names. */
async function fed({ graph, memory }: Parts, inputs: Readonly<Record<string, OrtTensor>>): Promise<Feeds> {
  const feeds: Feeds = {};
  for (const { key, name, dtype } of graph.inputs) {
    const value = asTaken(inputs[key] as OrtTensor, dtype);
    feeds[name] = memory ? await memory.placed(value) : value;
  }
  return feeds;
}

type Feeds = Record<string, OrtTensor>;

/** Bytes as the graph takes them; those of a weight are made once. */
function asTaken(value: OrtTensor, dtype: string): OrtTensor {
  if (dtype !== 'uint8' || value.type !== 'int8') return value;
  const found = withoutSign.get(value) ?? new CommonTensor('uint8', raised(value.data as Int8Array), value.dims);
  withoutSign.set(value, found);
  return found;
}

const withoutSign = new WeakMap<OrtTensor, OrtTensor>();

async function download(value: OrtTensor, memory: DeviceMemory | undefined): Promise<HostTensor> {
  if (specOf(value) === undefined) throw new EngineError('this value was released; download it before that');
  const data = await (memory ? await memory.onHost(value) : value).getData();
  const shape = [...value.dims];
  if (data instanceof Float32Array) return { dtype: 'float32', shape, data };
  if (data instanceof Int32Array) return { dtype: 'int32', shape, data };
  throw new EngineError(`a value must be float32 or int32 to be downloaded, got ${value.type}`);
}

function specOf(value: OrtTensor): { dtype: string; shape: readonly number[] } | undefined {
  if (!('dims' in Object(value)) || value.location === 'none') return undefined;
  return { dtype: value.type, shape: value.dims };
}
