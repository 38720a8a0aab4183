import type { DType, HostBytes, HostTensor, Tensors } from '../tensors.js';

/** Named tensors in, named tensors out: no variables, no reads, no randomness of its own. */
export type PureFunction = (inputs: Tensors) => Tensors;

/**
 * An axis of a shape: its size, or the name of a size that may differ from run to run, e.g. 'batch' or 'tokens', or a multiple of
 * one, '2*batch'. Within one run a name means one size, whichever inputs have it.
 */
export type Axis = number | string;

/** Type and shape of an input; int8 for an executor that takes bytes. */
export interface InputSpec {
  readonly dtype: DType | 'int8';
  readonly shape: readonly Axis[];
}

/** What ran the numbers: part of a result's identity. */
export interface EngineInfo {
  readonly executor: string;
  readonly backend: string;
  readonly threads: number;
  /** By name: of libraries that an executor finds on the machine, e.g. TensorFlow and the package that binds it. */
  readonly versions?: Readonly<Record<string, string>>;
}

/**
 * Runs pure functions. `Value` is the executor's own handle of a tensor (an ONNX Runtime tensor, a TensorFlow.js tensor):
 * values go from one call to the next without a visit to the host.
 */
export interface Executor<Value = unknown> {
  readonly info: EngineInfo;
  /** Makes a tensor at rest available. The memory may be shared: do not change it afterwards. */
  upload(tensor: HostTensor): Value;
  /**
   * Makes bytes available, where it multiplies by them: an input of type int8 that only `nn.quantizedLinear` and
   * `nn.dequantized` read. Without it, weights in 8 bits are written out as float32. The memory may be shared.
   */
  uploadBytes?(bytes: HostBytes): Value;
  /** Brings a value back as a tensor at rest. */
  download(value: Value): Promise<HostTensor>;
  /** Gives up a value that `upload` or `run` returned. */
  release(value: Value): void;
  /**
   * Prepares `fn` for inputs of exactly these shapes; an axis with a name may have another size in every run.
   *
   * @param constants inputs that have these values in every run, in which they are passed all the same. An executor may build them into
   * what it prepares, which takes memory and makes products of few rows faster. Release them after the compiled function.
   */
  compile(
    fn: PureFunction,
    inputs: Readonly<Record<string, InputSpec>>,
    constants?: Readonly<Record<string, Value>>,
  ): Promise<CompiledFunction<Value>>;
}

/** A pure function made ready for shapes of one form. */
export interface CompiledFunction<Value = unknown> {
  /**
   * One call. The caller owns the values that come back; the inputs stay untouched.
   * @throws ShapeError for inputs of other types or shapes, and when a named axis has one size in one input and another in another.
   */
  run(inputs: Readonly<Record<string, Value>>): Promise<Record<string, Value>>;
  /** Milliseconds spent to prepare it; it grows where some sizes are prepared by themselves, when they are first met. */
  readonly compileMs: number;
  dispose(): Promise<void>;
}
