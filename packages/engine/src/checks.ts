import { Tensor } from '@tensorflow/tfjs';
import { EngineError, ShapeError, sizeOf } from '@peftjs/core';
import type { HostTensor, Tensors, TensorSpec } from '@peftjs/core';

type Specs = Readonly<Record<string, TensorSpec>>;

/** @throws ShapeError when a spec has a type that is none of `types`, or a dimension that no tensor can have. */
export function checkSpecs(specs: Specs, types: readonly string[] = Object.keys(MEMORY)): void {
  for (const [name, { dtype, shape }] of Object.entries(specs)) {
    if (!types.includes(dtype))
      throw new ShapeError(`input '${name}' must be ${types.join(' or ')}, got ${dtype}`, name);
    if (!Array.isArray(shape) || !shape.every((dim) => Number.isInteger(dim) && dim >= 0)) {
      throw new ShapeError(`input '${name}' needs a shape of whole numbers, got ${shown(shape)}`, name);
    }
  }
}

const MEMORY = { float32: Float32Array, int32: Int32Array };

/**
 * What an executor takes from the host.
 *
 * @throws ShapeError when the memory is not what type and shape say.
 * @throws EngineError when a number is NaN: it would spread through the whole step.
 */
export function checkHostTensor(tensor: HostTensor | null | undefined): void {
  const { dtype, shape, data }: Partial<HostTensor> = tensor ?? {};
  if (dtype === undefined || shape === undefined || !(dtype in MEMORY) || !(data instanceof MEMORY[dtype])) {
    const memory = (data as object | undefined)?.constructor.name ?? 'nothing';
    const got = shape === undefined ? 'no shape' : `${dtype} in ${memory}`;
    throw new ShapeError(
      `a tensor is float32 in a Float32Array or int32 in an Int32Array, and has a shape, got ${got}; convert it`,
    );
  }
  checkSpecs({ tensor: { dtype, shape } });
  if (data.length !== sizeOf(shape)) {
    throw new ShapeError(`a tensor ${shown(shape)} holds ${sizeOf(shape)} numbers, got ${data.length}`);
  }
  const nan = dtype === 'float32' ? data.findIndex(Number.isNaN) : -1;
  if (nan >= 0)
    throw new EngineError(`a tensor ${shown(shape)} holds NaN at element ${nan}; look where it was computed`);
}

/**
 * The values of a call against what the function was compiled for. `specOf` is undefined for what is no live value of the
 * executor.
 */
export function checkInputs<V>(
  specs: Specs,
  inputs: Readonly<Record<string, V>>,
  specOf: (value: V) => LooseSpec | undefined,
): void {
  for (const [name, spec] of Object.entries(specs)) {
    const value = inputs[name];
    if (value === undefined) {
      throw new EngineError(`input '${name}' is missing; expected ${spec.dtype} ${shown(spec.shape)}`, name);
    }
    const got = specOf(value);
    if (got === undefined) {
      throw new EngineError(`input '${name}' is released or no value of this executor; upload a tensor first`, name);
    }
    if (got.dtype !== spec.dtype || !sameShape(got.shape, spec.shape)) {
      throw new ShapeError(
        `input '${name}' must be ${spec.dtype} ${shown(spec.shape)}, got ${got.dtype} ${shown(got.shape)}; compile for this shape`,
        name,
      );
    }
  }
}

/** @throws EngineError for what is no function. */
export function checkFunction(fn: unknown): void {
  if (typeof fn === 'function') return;
  throw new EngineError(`compile takes a function from named tensors to named tensors, got ${typeof fn}`);
}

interface LooseSpec {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** What a pure function returned. @throws EngineError when it is not a record of tensors. */
export function checkOutputs(outputs: unknown): asserts outputs is Tensors {
  const values = typeof outputs === 'object' && outputs !== null ? Object.entries(outputs) : [];
  if (values.length === 0 || outputs instanceof Promise || outputs instanceof Tensor) {
    throw new EngineError('a pure function returns a record of tensors, at least one, and not a promise of it');
  }
  const [wrong] = values.find(([, value]) => !(value instanceof Tensor)) ?? [];
  if (wrong !== undefined) throw new EngineError(`output '${wrong}' is not a tensor`, wrong);
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

function shown(shape: readonly number[]): string {
  return Array.isArray(shape) ? `[${shape.join(', ')}]` : String(shape);
}
