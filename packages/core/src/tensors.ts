import type { Tensor } from '@tensorflow/tfjs';
import { ShapeError } from './errors.js';

/** Element types that cross an executor's border. */
export type DType = 'float32' | 'int32';

/** A tensor at rest: plain memory, owned by nobody, readable by every executor without a copy. */
export interface HostTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array;
}

/** Bytes at rest, for an executor that multiplies by them: a frozen weight in 8 bits. */
export interface HostBytes {
  readonly dtype: 'int8';
  readonly shape: readonly number[];
  readonly data: Int8Array;
}

/** Shape and type of a tensor to come; int8 for an executor that takes bytes. */
export interface TensorSpec {
  readonly dtype: DType | 'int8';
  readonly shape: readonly number[];
}

/** Tensors of TensorFlow.js by name, inside a pure function. */
export type Tensors = Record<string, Tensor>;

/** Tensors at rest by name. */
export type HostTensors = Record<string, HostTensor>;

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** A float32 tensor at rest. @throws ShapeError when the data does not fill the shape. */
export function hostTensor(data: Float32Array, shape: readonly number[]): HostTensor {
  return checked({ dtype: 'float32', shape, data });
}

/** An int32 tensor at rest. @throws ShapeError when the data does not fill the shape. */
export function hostIntegers(data: Int32Array, shape: readonly number[]): HostTensor {
  return checked({ dtype: 'int32', shape, data });
}

/** A float32 scalar at rest. */
export function hostScalar(value: number): HostTensor {
  return { dtype: 'float32', shape: [], data: Float32Array.of(value) };
}

/** A float32 tensor of zeros at rest. */
export function hostZeros(shape: readonly number[]): HostTensor {
  return { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) };
}

/** The spec of a tensor at rest. */
export function specOf({ dtype, shape }: TensorSpec): TensorSpec {
  return { dtype, shape };
}

/** The float32 values of a tensor at rest. @throws ShapeError when it holds integers. */
export function floats(tensor: HostTensor, name = 'tensor'): Float32Array {
  if (tensor.data instanceof Float32Array) return tensor.data;
  throw new ShapeError(`${name} must be float32, got ${tensor.dtype}`, name);
}

/** The transpose of a matrix at rest: [rows, columns] -> [columns, rows]. */
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

/** A tensor by name, at rest or inside the step. @throws ShapeError when there is none. */
export function tensorAt<T>(tensors: Readonly<Record<string, T>>, name: string): T {
  const tensor = tensors[name];
  if (tensor !== undefined) return tensor;
  throw new ShapeError(`there is no tensor '${name}' among ${Object.keys(tensors).join(', ') || 'none'}`, name);
}

/** Several tensors by name: `const { loraA, loraB } = tensorsAt(p, 'loraA', 'loraB')`. @throws ShapeError when one is missing. */
export function tensorsAt<T, const K extends string>(
  tensors: Readonly<Record<string, T>>,
  ...names: K[]
): Record<K, T> {
  return Object.fromEntries(names.map((name) => [name, tensorAt(tensors, name)])) as Record<K, T>;
}

function checked(tensor: HostTensor): HostTensor {
  if (tensor.data.length !== sizeOf(tensor.shape)) {
    throw new ShapeError(
      `shape [${tensor.shape.join(', ')}] needs ${sizeOf(tensor.shape)} values, got ${tensor.data.length}`,
    );
  }
  return tensor;
}

/** The same keys with other values. */
export function mapValues<A, B>(
  record: Readonly<Record<string, A>>,
  map: (value: A, key: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]));
}
