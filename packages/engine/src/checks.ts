import { Tensor } from '@tensorflow/tfjs-core';
import { EngineError, ShapeError, sizeOf, type HostTensor, type Tensors } from '@peftjs/core/method';
import { namedAxes, type Axis } from '@peftjs/core/runtime';
import { axisNames, sizedSpecs, type Sizes, type Specs } from './axes.js';

/** @throws ShapeError when a spec's type is not in `types`, or an axis is neither a size nor a name. */
export function checkSpecs(specs: Specs, types: readonly string[] = Object.keys(MEMORY)): void {
  for (const [name, { dtype, shape }] of Object.entries(specs)) {
    if (!types.includes(dtype))
      throw new ShapeError(`input '${name}' must be ${types.join(' or ')}, got ${dtype}`, name);
    if (!Array.isArray(shape) || !shape.every((axis) => isSize(axis) || (typeof axis === 'string' && axis !== ''))) {
      throw new ShapeError(`input '${name}' needs a shape of whole numbers or names, got ${shown(shape)}`, name);
    }
  }
}

function isSize(axis: unknown): axis is number {
  return Number.isInteger(axis) && (axis as number) >= 0;
}

const MEMORY = { float32: Float32Array, int32: Int32Array };

/**
 * Checks a tensor before it is uploaded.
 *
 * @throws ShapeError when the data does not match the type and the shape.
 * @throws EngineError when a number is NaN: it would spread through the whole step.
 */
export function checkHostTensor(tensor: HostTensor | null | undefined): void {
  const { dtype, shape, data }: Partial<HostTensor> = tensor ?? {};
  if (dtype === undefined || shape === undefined || !(dtype in MEMORY) || !(data instanceof MEMORY[dtype])) {
    const memory = (data as object | undefined)?.constructor.name ?? 'nothing';
    const got = shape === undefined ? 'no shape' : `${dtype} in ${memory}`;
    throw new ShapeError(
      `a tensor must be float32 in a Float32Array or int32 in an Int32Array, with a shape, got ${got}; convert it`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    throw new ShapeError(`a tensor needs a shape of whole numbers, got ${shown(shape)}`);
  }
  if (data.length !== sizeOf(shape)) {
    throw new ShapeError(`a tensor ${shown(shape)} holds ${sizeOf(shape)} numbers, got ${data.length}`);
  }
  const nan = dtype === 'float32' ? firstNaN(data) : -1;
  if (nan >= 0)
    throw new EngineError(`a tensor ${shown(shape)} holds NaN at element ${nan}; look where it was computed`);
}

/** The place of the first NaN; -1 without one. A loop: `findIndex` takes a second for the weights of a large model. */
function firstNaN(data: Float32Array | Int32Array): number {
  for (let at = 0; at < data.length; at++) if (Number.isNaN(data[at])) return at;
  return -1;
}

/**
 * Checks the inputs of a call against the specs that the function was compiled for. `specOf` returns undefined for
 * anything that is not a live value of the executor.
 *
 * @returns the size of each named axis in this call
 * @throws ShapeError for another type or shape, and when one name would get two sizes.
 * @throws EngineError for a value that is missing or released.
 */
export function checkInputs<V>(
  specs: Specs,
  inputs: Readonly<Record<string, V>>,
  specOf: (value: V) => LooseSpec | undefined,
): Sizes {
  const sizes = new Map<string, Bound>();
  for (const [name, spec] of Object.entries(specs)) {
    const value = inputs[name];
    if (value === undefined) {
      throw new EngineError(`input '${name}' is missing; expected ${spec.dtype} ${shown(spec.shape)}`, name);
    }
    const got = specOf(value);
    if (got === undefined) {
      throw new EngineError(`input '${name}' is released or not a value of this executor; upload a tensor first`, name);
    }
    if (got.dtype !== spec.dtype || !fits(got.shape, spec.shape)) {
      throw new ShapeError(
        `input '${name}' must be ${spec.dtype} ${shown(spec.shape)}, got ${got.dtype} ${shown(got.shape)}; compile for this shape`,
        name,
      );
    }
    spec.shape.forEach((axis, place) => {
      if (typeof axis === 'string') bind(sizes, axis, { size: got.shape[place] as number, input: name });
    });
  }
  const bound = Object.fromEntries(axisNames(specs).map((name) => [name, sizes.get(name)?.size ?? 0]));
  for (const [name, { shape }] of Object.entries(sizedSpecs(specs, bound))) {
    const got = specOf(inputs[name] as V)?.shape ?? [];
    if (fits(got, shape)) continue; // sums of axes may differ
    throw new ShapeError(`input '${name}' must be ${shown(shape)} beside the other inputs, got ${shown(got)}`, name);
  }
  return bound;
}

/** The size of an axis in a call, and the first input that has it. */
interface Bound {
  readonly size: number;
  readonly input: string;
}

/** @throws ShapeError when the name has another size already. */
function bind(sizes: Map<string, Bound>, axis: string, { size, input }: Bound): void {
  const [{ name, factor }, ...others] = namedAxes(axis);
  if (others.length > 0) return; // other inputs have the terms of the sum, which is checked last
  if (size % factor !== 0) {
    throw new ShapeError(`'${axis}' is ${size} in input '${input}'; expected a multiple of ${factor}`, input);
  }
  const own = { size: size / factor, input };
  const known = sizes.get(name) ?? own;
  sizes.set(name, known);
  if (known.size === own.size) return;
  const other = known.input === input ? '' : `, but '${name}' is ${known.size} in input '${known.input}'`;
  throw new ShapeError(
    `'${axis}' is ${size} in input '${input}'${other}; a named axis has the same size in all inputs of a run`,
    input,
  );
}

/** @throws EngineError when `fn` is not a function. */
export function checkFunction(fn: unknown): void {
  if (typeof fn === 'function') return;
  throw new EngineError(`compile takes a function from named tensors to named tensors, got ${typeof fn}`);
}

interface LooseSpec {
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** Checks what a pure function returned. @throws EngineError when it is not a record of tensors. */
export function checkOutputs(outputs: unknown): asserts outputs is Tensors {
  const values = typeof outputs === 'object' && outputs !== null ? Object.entries(outputs) : [];
  if (values.length === 0 || outputs instanceof Promise || outputs instanceof Tensor) {
    throw new EngineError('a pure function must return a non-empty record of tensors, not a promise');
  }
  const [wrong] = values.find(([, value]) => !(value instanceof Tensor)) ?? [];
  if (wrong !== undefined) throw new EngineError(`output '${wrong}' is not a tensor`, wrong);
}

/** Whether a shape matches the spec; a named axis matches any size. */
function fits(shape: readonly number[], spec: readonly Axis[]): boolean {
  return shape.length === spec.length && spec.every((axis, place) => typeof axis === 'string' || axis === shape[place]);
}

function shown(shape: readonly Axis[]): string {
  return Array.isArray(shape) ? `[${shape.join(', ')}]` : String(shape);
}
