import './tensorflow.js';
import type { Tensor } from '@tensorflow/tfjs-core';
import { firstNames, ShapeError } from './errors.js';

/** Element types that executors exchange. */
export type DType = 'float32' | 'int32';

/** A tensor on the host: plain memory that every executor can read without a copy. Treat it as immutable. */
export interface HostTensor {
  /** The element type. */
  readonly dtype: DType;
  /** The size of each axis; empty for a scalar. */
  readonly shape: readonly number[];
  /** The elements, row after row (the last axis is contiguous). */
  readonly data: Float32Array | Int32Array;
}

/** Bytes of a frozen weight in few bits, for an executor that multiplies by them. */
export interface HostBytes {
  /** The element type. */
  readonly dtype: ByteType;
  /** The size of each axis. */
  readonly shape: readonly number[];
  /** The elements, row after row. */
  readonly data: Int8Array | Uint8Array;
}

/** Element types of weights in few bits. */
export type ByteType = 'int8' | 'uint8';

/** The shape and type of a future tensor. */
export interface TensorSpec {
  /** The element type; bytes only for executors that have `uploadBytes`. */
  readonly dtype: DType | ByteType;
  /** The size of each axis. */
  readonly shape: readonly number[];
}

/** TensorFlow.js tensors by name, inside a pure function. */
export type Tensors = Record<string, Tensor>;

/** Host tensors by name. */
export type HostTensors = Record<string, HostTensor>;

/** Returns the number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** Makes a float32 host tensor. @throws ShapeError when the data does not fill the shape. */
export function hostTensor(data: Float32Array, shape: readonly number[]): HostTensor {
  return checked({ dtype: 'float32', shape, data });
}

/** Makes an int32 host tensor. @throws ShapeError when the data does not fill the shape. */
export function hostIntegers(data: Int32Array, shape: readonly number[]): HostTensor {
  return checked({ dtype: 'int32', shape, data });
}

/** Makes a float32 scalar on the host. */
export function hostScalar(value: number): HostTensor {
  return { dtype: 'float32', shape: [], data: Float32Array.of(value) };
}

/** Makes a float32 host tensor of zeros. */
export function hostZeros(shape: readonly number[]): HostTensor {
  return { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) };
}

/** Stacks rows of equal width: `[width]` each -> `[rows, width]`. */
export function hostRows(rows: readonly Float32Array[]): HostTensor {
  return hostTensor(joinedFloats(rows), [rows.length, rows[0]?.length ?? 0]);
}

/** Joins arrays, one after the other. */
export function joinedFloats(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(sumOf(arrays, ({ length }) => length));
  let end = 0;
  for (const values of arrays) {
    all.set(values, end);
    end += values.length;
  }
  return all;
}

/** Makes a float32 host tensor of one value. */
export function hostFilled(shape: readonly number[], value: number): HostTensor {
  return { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)).fill(value) };
}

/** Returns the spec of a host tensor. */
export function specOf({ dtype, shape }: TensorSpec): TensorSpec {
  return { dtype, shape };
}

/** Returns the float32 values of a host tensor. @throws ShapeError when it holds integers. */
export function floats(tensor: HostTensor, name = 'tensor'): Float32Array {
  if (tensor.data instanceof Float32Array) return tensor.data;
  throw new ShapeError(`${name} must be float32, got ${tensor.dtype}`, name);
}

/** Returns a float32 tensor with each value mapped. @throws ShapeError when it holds integers. */
export function mapTensor(tensor: HostTensor, map: (value: number, index: number) => number): HostTensor {
  return hostTensor(floats(tensor).map(map), tensor.shape);
}

/** Transposes a host matrix: [rows, columns] -> [columns, rows]. */
export function transposed(matrix: HostTensor): HostTensor {
  const [rows = 0, columns = 0] = matrix.shape;
  if (matrix.shape.length !== 2) {
    throw new ShapeError(`a matrix is needed to transpose, got shape [${matrix.shape.join(', ')}]`);
  }
  const from = floats(matrix);
  const to = new Float32Array(from.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      to[column * rows + row] = from[row * columns + column] as number;
    }
  }
  return { dtype: 'float32', shape: [columns, rows], data: to };
}

/** Returns a tensor by name. @throws ShapeError when there is none. */
export function tensorAt<T>(tensors: Readonly<Record<string, T>>, name: string): T {
  const tensor = tensors[name];
  if (tensor !== undefined) return tensor;
  throw new ShapeError(`there is no tensor '${name}' among ${firstNames(Object.keys(tensors))}`, name);
}

/**
 * Returns several tensors by name: `const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB')`. @throws ShapeError when
 * one is missing.
 */
export function tensorsAt<T, const K extends string>(
  tensors: Readonly<Record<string, T>>,
  ...names: K[]
): Record<K, T> {
  return Object.fromEntries(names.map((name) => [name, tensorAt(tensors, name)])) as Record<K, T>;
}

function checked(tensor: HostTensor): HostTensor {
  if (!ArrayBuffer.isView(tensor.data) || !Array.isArray(tensor.shape)) {
    throw new ShapeError('a tensor needs a typed array and a shape, e.g. new Float32Array(6) and [2, 3]');
  }
  if (tensor.data.length !== sizeOf(tensor.shape)) {
    throw new ShapeError(
      `shape [${tensor.shape.join(', ')}] needs ${sizeOf(tensor.shape)} values, got ${tensor.data.length}`,
    );
  }
  return tensor;
}

/** Adds up a number of each item, in their order. */
export function sumOf<T>(items: readonly T[], numberOf: (item: T) => number): number {
  return items.reduce((sum, item) => sum + numberOf(item), 0);
}

/** Groups items by key; keys and items keep their order. */
export function grouped<K, T>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, [T, ...T[]]> {
  const groups = new Map<K, [T, ...T[]]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

/** Returns a record with the same keys and mapped values. */
export function mapValues<A, B>(
  record: Readonly<Record<string, A>>,
  map: (value: A, key: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]));
}
