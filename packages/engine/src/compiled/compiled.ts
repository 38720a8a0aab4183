import { Tensor as CommonTensor } from 'onnxruntime-common';
import type { InferenceSession } from 'onnxruntime-common';
import type { Executor } from '@peftjs/core';
import { ConfigError, EngineError, integerFrom, parseOptions, warnOnce, type HostTensor } from '@peftjs/core/method';
import { aFunction, freeMemory, type HostBytes } from '@peftjs/core/model';
import { identityOf, type CompiledFunction, type InputSpec } from '@peftjs/core/runtime';
import * as v from 'valibot';
import type { Sizes, Specs } from '../axes.js';
import { checkHostTensor, checkInputs } from '../checks.js';
import { availableThreads, isPage } from '../host.js';
import { deviceMemory, hasMemory } from './device.js';
import type { DeviceMemory } from './device.js';
import type { ConstantData, ElementType, GraphConstant } from './parts.js';
import type { KernelTable } from './kernels/kernel.js';
import { kernelTable, webgpuTable } from './kernels/table.js';
import type { RunGraph } from './merge.js';
import { withNarrowProducts } from './narrow-products.js';
import { oneAtATime } from './one-at-a-time.js';
import { ordered } from './order.js';
import { programsOf } from './programs.js';
import type { Programs } from './programs.js';
import {
  aRuntime,
  exactBytes,
  loadRuntime,
  openGraph,
  providerName,
  asUnsigned,
  reasonOf,
  someProviders,
} from './runtime.js';
import type { ExecutionProvider, OrtRuntime, OrtSession, OrtTensor } from './runtime.js';
import { threadRuntime } from './thread.js';
import { webThreads } from './web-threads.js';

/** Options of {@link compiled}. */
export interface CompiledOptions {
  /**
   * The number of threads of a run. Default: all cores. The last bits of a result depend on it.
   *
   * In a page it is set in the runtime, once for all executors: `env.wasm.numThreads`, if the page has not set that.
   * More than one needs a page that is cross-origin isolated, and `env.wasm.wasmPaths`; otherwise runs have one thread.
   * A warning says what is missing, if a number was set or the page is isolated. `info.threads` is the number in use.
   */
  readonly threads?: number;
  /** The ONNX Runtime to use, e.g. onnxruntime-web/wasm in a page. Default: onnxruntime-node. */
  readonly runtime?: OrtRuntime;
  /** The execution providers, best first. Default: 'cpu' in Node, 'wasm' with a `runtime` of your own. */
  readonly executionProviders?: readonly ExecutionProvider[];
  /**
   * Translations of TensorFlow.js kernels into graph nodes, by kernel name: they add to the built-in ones or replace
   * them ({@link KernelTable}).
   */
  readonly kernels?: KernelTable;
  /**
   * Whether graphs run, and values live, in a separate thread, so that the event loop stays free. The numbers are the
   * same. Functions are still traced in the caller's thread. Only in Node, and not on WebGPU. Default false.
   */
  readonly worker?: boolean;
}

const entries = {
  threads: v.optional(integerFrom(1)),
  runtime: v.optional(aRuntime),
  executionProviders: v.optional(someProviders),
  kernels: v.optional(v.record(v.string(), aFunction)),
  worker: v.optional(v.boolean()),
} satisfies Record<keyof CompiledOptions, unknown>;

/**
 * Creates the executor that traces a pure function, including its gradients, into one ONNX graph and runs that graph.
 * Tensors are passed by reference: a frozen weight is uploaded once and shared by all compiled functions. Named axes
 * stay open: one graph serves every size. Functions that compute the same share one session across all executors with
 * the same settings.
 *
 * @throws ConfigError when `threads` is not a positive whole number, `executionProviders` is not a list of names, or
 * `kernels` is not a record of functions; for `worker` outside Node, with a `runtime`, or with a provider that has its
 * own memory.
 */
export function compiled(options: CompiledOptions = {}): Executor<OrtTensor> {
  parseOptions('compiled', entries, options);
  const { kernels = {}, worker = false } = options;
  const executionProviders = options.executionProviders ?? [options.runtime === undefined ? 'cpu' : 'wasm'];
  const [provider = 'cpu'] = executionProviders;
  const backend = providerName(provider);
  if (worker) checkWorker(options.runtime, provider);
  const threads = threadsOf(options, backend);
  const given = options.runtime && isPage() ? oneAtATime(options.runtime) : options.runtime;
  const runtime = worker ? threadRuntime() : given;
  const Tensor: OrtRuntime['Tensor'] = runtime?.Tensor ?? CommonTensor;
  const load = async (): Promise<OrtRuntime> => runtime ?? loadRuntime();
  const memory = hasMemory(provider) ? deviceMemory(load, executionProviders) : undefined;
  const table = { ...(memory ? webgpuTable : kernelTable), ...kernels };
  const sessionOptions = { executionProviders, intraOpNumThreads: threads, ...SESSION };
  const key = settingsKey(sessionOptions);
  return {
    info: { executor: 'compiled', backend, threads },
    upload(tensor) {
      checkHostTensor(tensor);
      return new Tensor(tensor.dtype, tensor.data, tensor.shape);
    },
    ...(MULTIPLIES_BYTES.includes(backend) && {
      uploadBytes: ({ dtype, data, shape }: HostBytes) => new Tensor(dtype, data, shape),
    }),
    download: (value) => download(value, memory),
    release(value) {
      memory?.release(value);
      value.dispose();
    },
    async compile(fn, inputs, constants = {}, { gradientCheckpointing, largest } = {}) {
      const start = performance.now();
      checkConstants(inputs, constants);
      const runtime = await load();
      await memory?.open();
      const readsBytes = Object.values(inputs).some(({ dtype }) => dtype === 'int8' || dtype === 'uint8');
      const tracing = { table, bytes: readsBytes ? await exactBytes(runtime) : 'int8' } as const;
      const open = (graph: RunGraph): Promise<OrtSession> => {
        const locations = memory && { preferredOutputLocation: memory.locations(graph.outputs) };
        return openGraph(runtime, graph, { ...sessionOptions, ...locations });
      };
      const before = performance.now() - start;
      const stored = memory ? {} : constants; // on a device, storing weights in the graph has no benefit
      const programs = await programsOf(fn, inputs, {
        runtime,
        tracing,
        key: `${key} ${constantsKey(stored)}`,
        keepsUnused: Object.keys(stored).length === 0,
        gradientCheckpointing: gradientCheckpointing ?? (largest ? keepsTooMuch(largest, freeBytes(backend)) : false),
        // On a device, asking a tensor for its size would copy it to the host.
        finish: (graph) => withConstants(memory ? graph : ordered(withNarrowProducts(graph)), stored, Tensor),
        open,
      });
      return compiledFunction({ programs, memory, Tensor, specs: inputs, constants: stored }, before);
    },
  };
}

/** Decides whether the values that a function keeps for its backward pass take too much of the free memory. */
function keepsTooMuch(largest: Sizes, free: number): (keptBytes: (at: Sizes) => number) => boolean {
  return (keptBytes) => {
    const kept = keptBytes(largest);
    if (kept < free / 2) return false;
    const [needed, all] = [kept, free].map((bytes) => (bytes / 1e9).toFixed(1)) as [string, string];
    warnOnce(
      `gradientCheckpointing is on: without it, a step would keep ${needed} GB for the backward pass, more than half of the ${all} GB of free memory; steps take longer, results are the same (set it to true or false to decide yourself)`,
    );
    return true;
  };
}

/** The free memory of a backend, in bytes; Infinity where it is unknown, as on a GPU. */
function freeBytes(backend: string): number {
  if (backend === 'wasm') return WASM_BYTES;
  return (backend === 'cpu' ? freeMemory() : undefined) ?? Infinity;
}

/** The most memory that WebAssembly addresses. */
const WASM_BYTES = 2 ** 32;

/** Providers with an integer matrix product of their own; the others would copy every weight back to the CPU for it. */
const MULTIPLIES_BYTES: readonly string[] = ['cpu', 'wasm'];

const SESSION: InferenceSession.SessionOptions = {
  graphOptimizationLevel: 'all',
  executionMode: 'sequential',
  interOpNumThreads: 1,
  // The memory pattern makes the second run plan its memory as one block, on top of the first run's blocks: no faster,
  // and a fifth larger.
  enableMemPattern: false,
  // ONNX Runtime logs nothing to stderr: its errors are thrown, and users cannot act on its warnings.
  logSeverityLevel: 4,
  // After a run, the threads of a session would keep spinning and slow down the next session, e.g. evaluation.
  extra: { session: { force_spinning_stop: '1' } },
};

/** The number of threads of a run. WebAssembly computes for every provider of a page what the provider cannot. */
function threadsOf({ runtime, threads }: CompiledOptions, backend: string): number {
  const isWeb = backend === 'wasm' || isPage();
  return runtime && isWeb ? webThreads(runtime, threads) : (threads ?? availableThreads());
}

/** @throws ConfigError when a worker thread cannot use the caller's runtime or the provider's memory. */
function checkWorker(runtime: OrtRuntime | undefined, provider: ExecutionProvider): void {
  if (runtime) {
    throw new ConfigError(
      'worker: true uses onnxruntime-node and takes no runtime; leave one out (in a page, call peftjs in a Web Worker)',
      'worker',
    );
  }
  if (hasMemory(provider)) {
    throw new ConfigError(`worker: true does not support '${providerName(provider)}'; leave one of them out`, 'worker');
  }
}

/** Returns the settings as text. Objects that hold more than data, e.g. a device, are identified by a number each. */
function settingsKey(settings: object): string {
  return JSON.stringify(settings, (_, value: unknown) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    if (Object.getPrototypeOf(value) === Object.prototype) return value;
    return `object ${identityOf(value)}`;
  });
}

/**
 * The most bytes of constants in one graph: protobuf holds 2 GB, and all constants exist twice while a session is
 * created.
 */
const MAX_CONSTANT_BYTES = 2 ** 30;

/**
 * Returns the graph with these inputs stored in it if they fit. ONNX Runtime then packs the weights for its matrix
 * products once.
 */
async function withConstants(graph: RunGraph, constants: Values, Tensor: OrtRuntime['Tensor']): Promise<RunGraph> {
  const stored = await Promise.all(
    graph.inputs.flatMap(({ key, name, dtype }) => {
      const value = constants[key];
      return value ? [storedAs(name, dtype, value, Tensor)] : [];
    }),
  );
  const bytes = stored.reduce((sum, { data }) => sum + data.byteLength, 0);
  if (bytes > MAX_CONSTANT_BYTES) return graph;
  return {
    ...graph,
    constants: [...graph.constants, ...stored],
    inputs: graph.inputs.filter(({ key }) => constants[key] === undefined),
  };
}

/**
 * @throws EngineError for constants that are not inputs or not live values.
 * @throws ShapeError for constants of another type or shape.
 */
function checkConstants(specs: Specs, constants: Values): void {
  const [unknown] = Object.keys(constants).filter((name) => !(name in specs));
  if (unknown !== undefined) throw new EngineError(`constant '${unknown}' is not an input of the function`, unknown);
  const own = Object.keys(constants).map((name) => [name, specs[name] as InputSpec] as const);
  checkInputs(Object.fromEntries(own), constants, specOf);
}

/** @throws EngineError when a run passes another value than the function was compiled with. */
function checkUnchanged(constants: Values, inputs: Values): void {
  const [changed] = Object.keys(constants).filter((name) => inputs[name] !== constants[name]);
  if (changed === undefined) return;
  throw new EngineError(`input '${changed}' was compiled as a constant, got another value; compile again`, changed);
}

async function storedAs(
  name: string,
  dtype: ElementType,
  value: OrtTensor,
  Tensor: OrtRuntime['Tensor'],
): Promise<GraphConstant> {
  const converted = await asGraphType(value, dtype, Tensor);
  return { name, dtype, shape: converted.dims, data: (await converted.getData()) as ConstantData };
}

/** Identifies the values that a graph stores. */
function constantsKey(constants: Values): string {
  return Object.entries(constants)
    .map(([name, value]) => `${name} ${identityOf(value)}`)
    .join();
}

/** The parts of a compiled function. */
interface Parts {
  readonly programs: Programs;
  readonly memory: DeviceMemory | undefined;
  readonly Tensor: OrtRuntime['Tensor'];
  readonly specs: Specs;
  readonly constants: Values;
}

/**
 * Releases the programs of functions that were dropped without being disposed of, for example with an executor that was
 * made for one evaluation. JavaScript frees only their handles: their sessions would stay open.
 */
const dropped = new FinalizationRegistry<Programs>((programs) => {
  programs.dispose().catch(() => undefined); // no caller awaits it: an error would be an unhandled rejection
});

function compiledFunction(parts: Parts, before: number): CompiledFunction<OrtTensor> {
  const { programs, specs, constants } = parts;
  const running = new Set<Promise<unknown>>();
  let isDisposed = false;
  dropped.register(running, programs, programs); // every method holds `running`, also one taken out of the object
  return {
    get compileMs() {
      return before + programs.milliseconds();
    },
    async run(inputs) {
      if (isDisposed) throw new EngineError('this compiled function was disposed; compile it again');
      const sizes = checkInputs(specs, inputs, specOf);
      checkUnchanged(constants, inputs);
      const run = runOn(parts, inputs, sizes);
      running.add(run);
      try {
        return await run;
      } finally {
        running.delete(run);
      }
    },
    async dispose() {
      if (isDisposed) return;
      isDisposed = true;
      dropped.unregister(programs);
      await Promise.allSettled(running);
      await programs.dispose();
    },
  };
}

async function runOn(parts: Parts, inputs: Values, sizes: Sizes): Promise<Record<string, OrtTensor>> {
  return parts.programs.use(sizes, async ({ graph, session }) => {
    try {
      const results = await session.run(await feedsOf(graph, inputs, parts));
      return Object.fromEntries(graph.outputs.map(({ key, name }) => [key, results[name] as OrtTensor]));
    } catch (cause) {
      if (cause instanceof EngineError) throw cause;
      throw new EngineError(`ONNX Runtime failed: ${reasonOf(cause)}`, undefined, cause);
    }
  });
}

type Values = Readonly<Record<string, OrtTensor>>;

/** Maps the inputs to the graph's own names for them. */
async function feedsOf(graph: RunGraph, inputs: Values, { memory, Tensor }: Parts): Promise<Feeds> {
  const feeds: Feeds = {};
  for (const { key, name, dtype } of graph.inputs) {
    const value = await asGraphType(inputs[key] as OrtTensor, dtype, Tensor);
    feeds[name] = memory ? await memory.operand(value) : value;
  }
  return feeds;
}

type Feeds = Record<string, OrtTensor>;

/** Converts bytes to the type that the graph reads. The bytes of a weight are converted once. */
async function asGraphType(value: OrtTensor, dtype: string, Tensor: OrtRuntime['Tensor']): Promise<OrtTensor> {
  if (dtype !== 'uint8' || value.type !== 'int8') return value;
  const convert = async () => new Tensor('uint8', asUnsigned((await value.getData()) as Int8Array), value.dims);
  const found = unsignedCopies.get(value) ?? convert();
  unsignedCopies.set(value, found);
  return found;
}

const unsignedCopies = new WeakMap<OrtTensor, Promise<OrtTensor>>();

async function download(value: OrtTensor, memory: DeviceMemory | undefined): Promise<HostTensor> {
  if (specOf(value) === undefined) throw new EngineError('this value was released; download it before you release it');
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
