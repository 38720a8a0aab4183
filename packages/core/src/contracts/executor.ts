import type { ByteType, DType, HostBytes, HostTensor, Tensors } from '../tensors.js';

/**
 * A function from named tensors to named tensors. It has no variables, reads nothing back to the host and draws no
 * random numbers.
 */
export type PureFunction = (inputs: Tensors) => Tensors;

/**
 * The size of one axis of a shape. A number is fixed; a name, e.g. 'batch' or 'tokens', is a size that may differ from
 * run to run; '2*batch' is a multiple of such a size. Within one run a name has the same size in every input.
 */
export type Axis = number | string;

/** The type and shape of one input. */
export interface InputSpec {
  /** The element type; bytes only for executors that have `uploadBytes`. */
  readonly dtype: DType | ByteType;
  /** One entry per axis. */
  readonly shape: readonly Axis[];
}

/** The engine that ran the numbers. It is part of a result's identity. */
export interface EngineInfo {
  /** The executor's name, e.g. 'compiled'. */
  readonly executor: string;
  /** The backend it computes on, e.g. 'wasm'. */
  readonly backend: string;
  /** The number of CPU threads it uses. */
  readonly threads: number;
  /**
   * Versions, by name, of libraries that the executor finds on the machine, e.g. TensorFlow and the package that binds
   * it.
   */
  readonly versions?: Readonly<Record<string, string>>;
}

/** How a function that computes gradients may save memory. */
export interface CompileOptions {
  /**
   * Whether the backward pass computes values of the forward pass again instead of keeping all of them: the same
   * numbers, to the bit, with less memory and in more time. An executor that cannot keep fewer of them warns. Default:
   * on where they would take more than half of the free memory at the sizes `largest`.
   */
  readonly gradientCheckpointing?: boolean | undefined;
  /** The sizes of the named axes in the largest run. Default: unknown, and `gradientCheckpointing` off. */
  readonly largest?: Readonly<Record<string, number>> | undefined;
}

/**
 * Runs pure functions. `Value` is the executor's own handle of a tensor (an ONNX Runtime tensor, a TensorFlow.js
 * tensor), so that values pass from one call to the next without a copy to the host.
 */
export interface Executor<Value = unknown> {
  /** Describes this engine; recorded with every result. */
  readonly info: EngineInfo;
  /** Copies or wraps a host tensor into a value. The memory may be shared: do not change it afterwards. */
  upload(tensor: HostTensor): Value;
  /**
   * Uploads the bytes of weights in few bits, for executors that multiply by them directly. The value becomes an input
   * that only the functions of `nn` for a `QuantizedWeight` read. Without this method, such weights are expanded to
   * float32. The memory may be shared: do not change it afterwards.
   */
  uploadBytes?(bytes: HostBytes): Value;
  /** Returns a value's numbers on the host. The memory may be shared: do not change it. */
  download(value: Value): Promise<HostTensor>;
  /** Frees a value that `upload` or `run` returned. */
  release(value: Value): void;
  /**
   * Prepares `fn` for inputs of exactly these shapes; only named axes may change size from run to run.
   *
   * @param constants inputs that have these same values in every run. `run` must still be given them. An executor may
   * build them into the compiled function, which takes memory and speeds up products of few rows. Release them after
   * the compiled function.
   */
  compile(
    fn: PureFunction,
    inputs: Readonly<Record<string, InputSpec>>,
    constants?: Readonly<Record<string, Value>>,
    options?: CompileOptions,
  ): Promise<CompiledFunction<Value>>;
}

/** A pure function compiled for inputs of given types and shapes. */
export interface CompiledFunction<Value = unknown> {
  /**
   * Runs the function once. The caller owns the returned values; the inputs are not changed.
   * @throws ShapeError for inputs of other types or shapes, and when a named axis has different sizes in two inputs.
   */
  run(inputs: Readonly<Record<string, Value>>): Promise<Record<string, Value>>;
  /** Milliseconds spent on compiling so far. It grows when a size is first met that needs compiling of its own. */
  readonly compileMs: number;
  /** Frees what was compiled. */
  dispose(): Promise<void>;
}
