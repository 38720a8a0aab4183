import type * as ort from 'onnxruntime-common';
import { EngineError } from '@peftjs/core/method';
import { objectLike, type ByteType } from '@peftjs/core/model';
import * as v from 'valibot';
import { importOptional } from '../host.js';
import { GraphBuilder } from './graph.js';
import { standardNode, type ElementType } from './parts.js';
import { writeModel } from './onnx.js';
import type { ModelGraph } from './onnx.js';

/** The part of an ONNX Runtime tensor that peftjs uses. The data may be on a device or in another thread. */
export type OrtTensor = Pick<ort.Tensor, 'type' | 'dims' | 'location' | 'getData' | 'dispose'>;

/** The data of a tensor. */
export type OrtData = Exclude<ort.Tensor.DataType, string[]>;

/** The part of an ONNX Runtime session that peftjs uses. */
export interface OrtSession {
  /** The names of the graph's inputs. */
  readonly inputNames: readonly string[];
  /** The names of the graph's outputs. */
  readonly outputNames: readonly string[];
  /** Names and shapes of the inputs; an axis of any size has a name. */
  readonly inputMetadata?: readonly { readonly name: string; readonly shape?: readonly (number | string)[] }[];
  /** Runs the graph; inputs and outputs are by name. */
  run(feeds: Readonly<Record<string, OrtTensor>>): Promise<Readonly<Record<string, OrtTensor>>>;
  /** Closes the session. */
  release(): Promise<void>;
}

/** The part of ONNX Runtime that peftjs uses; onnxruntime-node and onnxruntime-web both have it. */
export interface OrtRuntime {
  /** Opens sessions. */
  readonly InferenceSession: {
    create(model: Uint8Array, options?: ort.InferenceSession.SessionOptions): Promise<OrtSession>;
  };
  /** Settings of WebAssembly, in the builds for pages. */
  readonly env?: { readonly wasm?: Pick<ort.Env.WebAssemblyFlags, 'initTimeout' | 'numThreads' | 'wasmPaths'> };
  /** Creates tensors on the host. */
  readonly Tensor: new (type: OrtTensor['type'], data: OrtData, dims: readonly number[]) => OrtTensor;
}

/** A schema for ONNX Runtimes. */
export const aRuntime = objectLike<OrtRuntime>(
  "ONNX Runtime, e.g. await import('onnxruntime-web')",
  { Tensor: 'function' },
  ({ InferenceSession }) => (InferenceSession as unknown) !== undefined,
);

/** An ONNX Runtime execution provider: 'cpu', 'webgpu', 'cuda', or an object with options. */
export type ExecutionProvider = ort.InferenceSession.ExecutionProviderConfig;

/** Loads ONNX Runtime for Node. @throws EngineError when it is not installed. */
export async function loadRuntime(): Promise<OrtRuntime> {
  try {
    return (await importOptional('onnxruntime-node')) as OrtRuntime;
  } catch (cause) {
    throw notInstalled(cause);
  }
}

/** Returns the error that says how to install ONNX Runtime. */
export function notInstalled(cause: unknown): EngineError {
  return new EngineError(
    'onnxruntime-node could not be loaded; in Node install it (npm install onnxruntime-node), ' +
      "in a page pass compiled({ runtime: await import('onnxruntime-web/wasm') })",
    undefined,
    cause,
  );
}

/**
 * Opens a session.
 *
 * @throws EngineError which names the provider if that does not start here, otherwise the size of the graph.
 */
export async function openGraph(
  runtime: OrtRuntime,
  graph: ModelGraph,
  options: ort.InferenceSession.SessionOptions,
): Promise<OrtSession> {
  try {
    return await runtime.InferenceSession.create(writeModel(graph), options);
  } catch (cause) {
    if (cause instanceof EngineError) throw cause;
    const unfused = isMisfused(cause) && (await openUnfused(runtime, graph, options));
    if (unfused) return unfused;
    await assertProviderStarts(runtime, options);
    const message = `ONNX Runtime refused a graph of ${graph.nodes.length} nodes: ${reasonOf(cause)}`;
    throw new EngineError(message, undefined, cause);
  }
}

/**
 * ONNX Runtime (1.30) moves scaling factors into the products that read them and may drop a node that others still
 * read, e.g. in the backward pass through a scaled layer of Granite followed by a scaled LoRA. It then rejects its own
 * result as invalid.
 */
function isMisfused(cause: unknown): boolean {
  const reason = reasonOf(cause);
  return (
    /Invalid model\. Node input '/.test(reason) && /' is not a graph input, initializer, or output of/.test(reason)
  );
}

/** Opens the graph without that optimisation; undefined if it fails again. */
async function openUnfused(
  runtime: OrtRuntime,
  graph: ModelGraph,
  options: ort.InferenceSession.SessionOptions,
): Promise<OrtSession | undefined> {
  const extra = { ...options.extra, optimization: { disable_specified_optimizers: 'MatMulScaleFusion' } };
  try {
    return await runtime.InferenceSession.create(writeModel(graph), { ...options, extra });
  } catch {
    return undefined;
  }
}

/** A graph that copies its input `x`, of any size, to its output `y`. */
export function copyGraph(dtype: ElementType, rank: number): ModelGraph {
  const shape = Array.from({ length: rank }, (_, axis) => `size${axis}`);
  return {
    nodes: [standardNode('Identity', ['x'], 'y')],
    constants: [],
    inputs: [{ name: 'x', dtype, shape }],
    outputs: [{ name: 'y', dtype, shape }],
  };
}

/** ONNX Runtime's error message, on one line and without its source files. */
export function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  const text = message.split(' was false. ').at(-1) ?? message;
  return text.replaceAll(/\s+/g, ' ').replace(/(?<![.\s])[.\s]+$/, '');
}

/** A schema for lists of providers. */
export const someProviders = v.custom<readonly ExecutionProvider[]>((list) => {
  const names: unknown[] = Array.isArray(list) ? list.map(providerName) : [];
  return names.length > 0 && names.every((name) => typeof name === 'string' && name !== '');
}, "a list of names, e.g. ['webgpu']");

/** The name of a provider given with or without options. */
export function providerName(provider: ExecutionProvider): string {
  return typeof provider === 'string' ? provider : provider.name;
}

/** What a provider needs besides ONNX Runtime. */
const NEEDS: Readonly<Record<string, string>> = {
  webgpu: 'it needs a GPU and its driver for Vulkan, Metal or Direct3D 12',
  wasm: 'it needs the files that env.wasm.wasmPaths names, and for threads each with the headers of the page',
  cuda: 'it needs CUDA, and its libraries: npm rebuild onnxruntime-node --ignore-scripts=false',
};

/** @throws EngineError when even the smallest graph cannot be opened, so the graph is not the cause. */
async function assertProviderStarts(
  runtime: OrtRuntime,
  { executionProviders = [], logSeverityLevel = 4 }: ort.InferenceSession.SessionOptions,
): Promise<void> {
  try {
    const options = { executionProviders, logSeverityLevel };
    const session = await runtime.InferenceSession.create(writeModel(copyGraph('float32', 1)), options);
    await session.release();
  } catch (cause) {
    const names = executionProviders.map(providerName);
    const [name = ''] = names;
    const advice = NEEDS[name] ?? 'listBackends() lists what this machine has';
    throw new EngineError(
      `ONNX Runtime does not start on '${names.join("', '")}' here: ${reasonOf(cause)}; ${advice}`,
      name,
      cause,
    );
  }
}

const [ROWS, INNER, COLUMNS] = [3, 67, 35]; // full SIMD vectors of every width, plus a remainder

const known = new WeakMap<OrtRuntime, Promise<ByteType>>();

/**
 * Finds out how weight bytes are passed to ONNX Runtime's integer products, so that these are exact on this machine:
 * signed, or unsigned and raised by 128. Processors without VNNI add pairs of uint8 x int8 products in 16 bits, where
 * the largest overflow; uint8 x uint8 is slower there, but exact. Tested once per runtime, with the largest numbers.
 *
 * @throws EngineError when neither is exact.
 */
export function exactBytes(runtime: OrtRuntime): Promise<ByteType> {
  const found = known.get(runtime) ?? firstExact(runtime);
  known.set(runtime, found);
  return found;
}

async function firstExact(runtime: OrtRuntime): Promise<ByteType> {
  for (const type of ['int8', 'uint8'] as const) if (await isExact(runtime, type)) return type;
  throw new EngineError(
    'ONNX Runtime does not multiply integers exactly on this processor; load the model with dtype: "fp32"',
  );
}

/** Whether ONNX Runtime's byte products equal those computed in JavaScript. */
export async function isExact(runtime: OrtRuntime, type: ByteType): Promise<boolean> {
  const rows = Uint8Array.from({ length: ROWS * INNER }, (_, at) => (at % INNER < INNER / 2 ? 255 : (at * 37) % 256));
  const weight = Int8Array.from({ length: INNER * COLUMNS }, (_, at) => (at % 3 === 0 ? ((at * 29) % 255) - 127 : 127));
  const graph = new GraphBuilder();
  const [x, q] = [graph.input('x', 'uint8', [ROWS, INNER]), graph.input('q', type, [INNER, COLUMNS])];
  const zero = graph.constant(Uint8Array.of(128), 'uint8', []);
  const operands = [x, q, zero, ...(type === 'uint8' ? [zero] : [])];
  graph.output('y', graph.node('MatMulInteger', operands, [ROWS, COLUMNS], { dtype: 'int32' }));
  const session = await runtime.InferenceSession.create(writeModel(graph), { logSeverityLevel: 4 });
  try {
    const { [graph.outputs[0]?.name ?? '']: y } = await session.run({
      [x.name]: new runtime.Tensor('uint8', rows, [ROWS, INNER]),
      [q.name]: new runtime.Tensor(type, type === 'int8' ? weight : asUnsigned(weight), [INNER, COLUMNS]),
    });
    const product = await y?.getData();
    return exactProduct(rows, weight).every((sum, at) => sum === product?.[at]);
  } finally {
    await session.release();
  }
}

/** Signed bytes as unsigned ones, raised by 128. */
export function asUnsigned(bytes: Int8Array): Uint8Array {
  const higher = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at++) higher[at] = (bytes[at] as number) + 128;
  return higher;
}

function exactProduct(rows: Uint8Array, weight: Int8Array): number[] {
  return Array.from({ length: ROWS * COLUMNS }, (_, at) => {
    const [row, column] = [Math.floor(at / COLUMNS), at % COLUMNS];
    let sum = 0;
    for (let inner = 0; inner < INNER; inner++) {
      sum += ((rows[row * INNER + inner] as number) - 128) * (weight[inner * COLUMNS + column] as number);
    }
    return sum;
  });
}
