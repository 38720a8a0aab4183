import type { BackendValues, DataType, NamedAttrMap, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from '@peftjs/core/method';
import { GraphBuilder, typedArray } from './graph.js';
import type { Value } from './graph.js';
import type { ConstantData, TracedNode } from './parts.js';
import { dtypeFor } from './kernels/creation.js';
import type { Kernel, KernelTable } from './kernels/kernel.js';
import { quantized } from './kernels/quantized.js';

/** A kernel of the table, and whether it accepts weights in few bits. */
interface KernelOfTable {
  readonly kernel: Kernel;
  readonly takesBytes: boolean;
}

/** The graph's value of a tensor; `known` if its numbers were given, not computed. */
interface Entry {
  readonly value: Value;
  readonly known?: ConstantData;
}

/**
 * A TensorFlow.js backend that computes nothing: its tensors are values of an ONNX graph, and its kernels add nodes to
 * that graph.
 */
export class TraceBackend extends tf.KernelBackend {
  #graph: GraphBuilder | undefined;
  readonly #entries = new Map<object, Entry>();

  /** Runs `body` with a new graph. @throws EngineError inside another trace. */
  trace<T>(body: (graph: GraphBuilder) => T): T {
    if (this.#graph !== undefined) {
      throw new EngineError(
        'a function is being compiled inside another compiled function; compile them one after the other',
      );
    }
    this.#graph = new GraphBuilder();
    try {
      return body(this.#graph);
    } finally {
      this.#graph = undefined;
      this.#disposeAll();
    }
  }

  /**
   * Disposes of all tensors, so that nothing of a trace outlives it: a gradient that throws leaves the tensors that it
   * kept.
   */
  #disposeAll(): void {
    for (const [dataId, { value }] of this.#entries) {
      const dtype = isBytes(value) ? 'int32' : dtypeFor(value.dtype);
      tf.engine().disposeTensor(new tf.Tensor([...value.shape], dtype, dataId, -1));
    }
    this.#entries.clear();
  }

  /** Runs a kernel of the table on TensorFlow.js tensors. */
  run(
    { kernel, takesBytes }: KernelOfTable,
    inputs: NamedTensorInfoMap,
    attributes: NamedAttrMap | undefined,
  ): TensorInfo | TensorInfo[] {
    const values: Record<string, Value> = {};
    for (const [name, tensor] of Object.entries(inputs)) {
      // TensorFlow.js passes an optional input that was left out as null or undefined.
      if (tensor != null) values[name] = this.valueFor(tensor);
    }
    if (!takesBytes) refuseBytes(values);
    const graph = this.#current();
    graph.pass = currentPass();
    const outputs = (kernel as Kernel<unknown, unknown>)(graph, values, attributes ?? {});
    return isMany(outputs) ? outputs.map((value) => this.tensorOf(value)) : this.tensorOf(outputs);
  }

  /** A TensorFlow.js tensor for a value of the graph. */
  tensorOf(value: Value, known?: ConstantData): TensorInfo {
    const dataId = {};
    this.#entries.set(dataId, known === undefined ? { value } : { value, known });
    return { dataId, shape: [...value.shape], dtype: isBytes(value) ? 'int32' : dtypeFor(value.dtype) };
  }

  /** The graph's value of a tensor; a tensor of another backend is copied into the graph as a constant. */
  valueFor({ dataId, shape, dtype }: TensorInfo): Value {
    const entry = this.#entries.get(dataId);
    if (entry !== undefined) return entry.value;
    return this.#current().constant(memoryOf(foreignValues(dataId), dtype), dtypeFor(dtype), shape);
  }

  override write(values: BackendValues, shape: number[], dtype: DataType): object {
    refuseRandomness();
    const data = memoryOf(values, dtype);
    return this.tensorOf(this.#current().constant(data, dtypeFor(dtype), shape), data).dataId;
  }

  override move(dataId: object, values: BackendValues, shape: number[], dtype: DataType): void {
    const data = memoryOf(values, dtype);
    this.#entries.set(dataId, { value: this.#current().constant(data, dtypeFor(dtype), shape), known: data });
  }

  override readSync(dataId: object): BackendValues {
    const known = this.#entries.get(dataId)?.known;
    if (known !== undefined && !(known instanceof BigInt64Array)) return known;
    throw new EngineError(
      `a compiled function reads a tensor${askedBy()}, which has no numbers while it is traced; ` +
        'return it as an output and read it after the run, or use the eager executor',
    );
  }

  override read(dataId: object): Promise<BackendValues> {
    return new Promise((resolve) => {
      resolve(this.readSync(dataId));
    });
  }

  override disposeData(dataId: object): boolean {
    this.#entries.delete(dataId);
    return true;
  }

  override numDataIds(): number {
    return this.#entries.size;
  }

  override refCount(): number {
    return 1;
  }

  override incRef(): void {
    // Every tensor has an entry of its own.
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override dispose(): void {
    this.#entries.clear();
  }

  #current(): GraphBuilder {
    if (this.#graph !== undefined) return this.#graph;
    throw new EngineError(
      `the backend '${TRACE_BACKEND}' only works while a function is compiled; choose another with tf.setBackend`,
    );
  }
}

/** The registered tracing backends, one for each table of kernels. */
const registered: { readonly name: string; readonly table: KernelTable }[] = [];

/**
 * Returns the name of the tracing backend with these kernels, and registers it on first use. It never becomes the
 * default backend.
 */
export function traceBackendName(table: KernelTable): string {
  const known = registered.find((other) => isSameTable(other.table, table));
  if (known !== undefined) return known.name;
  const name = registered.length === 0 ? TRACE_BACKEND : `${TRACE_BACKEND}-${registered.length}`;
  registered.push({ name, table });
  tf.registerBackend(name, () => new TraceBackend(), 0);
  for (const [kernelName, kernel] of Object.entries(table)) register(name, kernelName, kernel);
  for (const { kernelName } of tf.getKernelsForBackend('cpu')) {
    if (!(kernelName in table)) register(name, kernelName, refusal(kernelName));
  }
  return name;
}

const TRACE_BACKEND = 'peftjs-trace';

/** Returns a tracing backend by its name. */
export function traceBackend(name: string): TraceBackend {
  const backend: unknown = tf.findBackend(name);
  return backend as TraceBackend;
}

function isSameTable(a: KernelTable, b: KernelTable): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

function register(backendName: string, kernelName: string, kernel: Kernel): void {
  const kernelOfTable = { kernel, takesBytes: kernelName in quantized };
  tf.registerKernel({
    kernelName,
    backendName,
    kernelFunc: ({ inputs, attrs, backend }) => (backend as unknown as TraceBackend).run(kernelOfTable, inputs, attrs),
  });
}

/** Stands in for a kernel that TensorFlow.js has but the table does not. */
function refusal(kernelName: string): Kernel {
  return () => {
    throw missingKernel(kernelName);
  };
}

/**
 * The numbers of a tensor that the function closes over. @throws EngineError if its backend can only be read
 * asynchronously.
 */
function foreignValues(dataId: object): BackendValues {
  try {
    return tf.engine().readSync(dataId);
  } catch (cause) {
    throw new EngineError(
      'a compiled function uses a tensor from outside that cannot be read; pass it as an input',
      undefined,
      cause,
    );
  }
}

function memoryOf(values: BackendValues, dtype: DataType): Float32Array | Int32Array | Uint8Array {
  const type = dtypeFor(dtype);
  const fits = { float32: Float32Array, int32: Int32Array, bool: Uint8Array }[type];
  return values instanceof fits ? values : typedArray(values as ArrayLike<number>, type);
}

/** TensorFlow.js has no byte type: bytes appear as int32, and only the kernels for quantized weights may read them. */
function isBytes({ dtype }: Value): boolean {
  return dtype === 'int8' || dtype === 'uint8';
}

/** @throws EngineError when a kernel for numbers would read the bytes of a weight. */
function refuseBytes(values: Readonly<Record<string, Value>>): void {
  if (!Object.values(values).some(isBytes)) return;
  throw new EngineError(
    `a compiled function reads a weight in 8 or 4 bits${askedBy()}; use nn.quantizedLinear or nn.dequantized`,
  );
}

function isMany(outputs: Value | readonly Value[]): outputs is readonly Value[] {
  return Array.isArray(outputs);
}

/** The error for a kernel that cannot be compiled. */
export function missingKernel(kernelName: string): EngineError {
  return new EngineError(
    `the TensorFlow.js kernel '${kernelName}'${askedBy()} has no ONNX equivalent; ` +
      'compose the function from other ops, or run it with the eager executor',
    kernelName,
  );
}

const OP_SUFFIX = '__op';
const RANDOM_OPS: ReadonlySet<string> = new Set([
  'dropout',
  'multinomial',
  'rand',
  'randomGamma',
  'randomNormal',
  'randomStandardNormal',
  'randomUniform',
  'randomUniformInt',
  'truncatedNormal',
]);

/** The public ops that are running, outermost first: TensorFlow.js opens a scope for each op. */
function runningOps(): string[] {
  const { scopeStack } = tf.engine().state;
  return scopeStack.flatMap(({ name }) => (name.endsWith(OP_SUFFIX) ? [name.slice(0, -OP_SUFFIX.length)] : []));
}

/** The pass that is running: TensorFlow.js opens a scope for each. The outermost counts where gradients are nested. */
function currentPass(): TracedNode['pass'] {
  const pass = tf.engine().state.scopeStack.find(({ name }) => name === 'forward' || name === 'backward')?.name;
  return pass as TracedNode['pass'];
}

/** The op that asked, as a parenthesis within a message; empty if unknown. */
function askedBy(): string {
  const ops = runningOps();
  const isGradient = tf.engine().state.scopeStack.some(({ name }) => name === 'backward');
  if (ops.length === 0) return isGradient ? ' (asked for by a gradient)' : '';
  return ` (asked for by tf.${ops.join(' > tf.')}${isGradient ? ', in a gradient' : ''})`;
}

/**
 * @throws EngineError inside a random op: its numbers would be drawn once, at tracing time, and repeat in every run.
 */
function refuseRandomness(): void {
  const op = runningOps().find((name) => RANDOM_OPS.has(name));
  if (op === undefined) return;
  throw new EngineError(
    `tf.${op} would draw its numbers once, when the function is compiled, and repeat them in every run; ` +
      'pass random numbers as an input (for dropout see @peftjs/core/nn)',
  );
}
