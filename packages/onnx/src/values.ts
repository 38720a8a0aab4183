import { CheckpointError, ShapeError, sizeOf } from '@peftjs/core/method';
import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Kind } from './format/tensor.js';

const { assertAndGetBroadcastShape } = tf.broadcast_util;

/**
 * Numbers that are known while a graph is traced: small constants, and sizes of tensors. Whatever is computed from these
 * alone is computed on the host, so that a compiled step has no nodes for it.
 */
export interface HostArray {
  readonly kind: Kind;
  readonly shape: readonly number[];
  /** The elements, row after row; a bool is 0 or 1. */
  readonly data: readonly number[];
  /** Whether other batches may have other numbers here, though always of this shape. */
  readonly varies: boolean;
}

/** A value in a graph while it is traced. */
export type Value = Tensor | HostArray;

/** Whether a value is on the host. */
export function isHost(value: Value): value is HostArray {
  return 'varies' in value;
}

/** Returns a vector of integers on the host. */
export function hostInts(data: readonly number[], varies: boolean): HostArray {
  return { kind: 'int', shape: [data.length], data, varies };
}

const DTYPES = { float: 'float32', int: 'int32', bool: 'bool' } as const;

/** The type of TensorFlow.js for a kind of numbers. */
export function dtypeOf(kind: Kind): (typeof DTYPES)[Kind] {
  return DTYPES[kind];
}

/** The kind of numbers of a value. */
export function kindOf(value: Value): Kind {
  if (isHost(value)) return value.kind;
  return value.dtype === 'bool' ? 'bool' : value.dtype === 'int32' ? 'int' : 'float';
}

/** The most that an int32 holds: ONNX marks "to the end" by the largest int64. */
const MAX_INT = 2 ** 31 - 1;

/** Returns a value as a tensor. */
export function tensorOf(value: Value): Tensor {
  if (!isHost(value)) return value;
  const data = value.kind === 'int' ? value.data.map((x) => Math.max(-MAX_INT, Math.min(MAX_INT, x))) : value.data;
  return tf.tensor([...data], [...value.shape], dtypeOf(value.kind));
}

/** Returns the numbers of a value. @throws ShapeError when they depend on more than the sizes of a batch. */
export function numbersOf(value: Value | undefined, what: string): readonly number[] {
  if (value !== undefined && isHost(value)) return value.data;
  throw new ShapeError(`${what} must follow from the sizes of the batch, not from its numbers`, what);
}

/** Returns an axis counted from the front. @throws CheckpointError when there is none. */
export function axisOf(axis: number, rank: number): number {
  if (Number.isInteger(axis) && axis >= -rank && axis < Math.max(rank, 1)) return axis < 0 ? axis + rank : axis;
  throw new CheckpointError(`there is no axis ${axis} in a tensor of ${rank} axes`);
}

/** The most elements of a tensor whose size a graph asks for. */
const MAX_ELEMENTS = 2 ** 31 - 1;

/** The most elements of a host array, e.g. of a table of 256 x 256 relative positions. */
export const MAX_ON_HOST = 2 ** 16;

/** Checks a shape that a graph asks for. @throws CheckpointError when it is none, or gigantic. */
export function checkedShape(shape: readonly number[], most = MAX_ELEMENTS): number[] {
  if (shape.every((dim) => Number.isInteger(dim) && dim >= 0) && sizeOf(shape) <= most) return [...shape];
  throw new CheckpointError(
    `a tensor of shape [${shape.slice(0, 20).join(', ')}] cannot be computed: at most ${most} elements are`,
  );
}

/**
 * Returns a host array of a new shape, each element taken from another array.
 * @param from returns the index along each axis of `source`, for an index of the new array
 */
export function picked(
  source: HostArray,
  shape: readonly number[],
  from: (index: readonly number[]) => readonly number[],
): HostArray {
  const data = indicesIn(shape).map((index) => {
    const flat = from(index).reduce((sum, place, axis) => sum * (source.shape[axis] as number) + place, 0);
    return source.data[flat] as number;
  });
  return { ...source, shape, data };
}

/** Computes numbers from host arrays that broadcast. */
export function zipped(arrays: readonly HostArray[], kind: Kind, compute: (...numbers: number[]) => number): HostArray {
  const shape = arrays.map((array) => [...array.shape]).reduce((a, b) => assertAndGetBroadcastShape(a, b));
  const spread = arrays.map((array) => broadcastTo(array, shape).data);
  const data = Array.from({ length: sizeOf(shape) }, (_, at) =>
    compute(...spread.map((numbers) => numbers[at] as number)),
  );
  return { kind, shape, data, varies: arrays.some(({ varies }) => varies) };
}

/** Broadcasts a host array. */
export function broadcastTo(array: HostArray, shape: readonly number[]): HostArray {
  const lead = shape.length - array.shape.length;
  return picked(array, shape, (index) =>
    array.shape.map((dim, axis) => (dim === 1 ? 0 : (index[lead + axis] as number))),
  );
}

/** Returns the indices of all elements of a shape, row after row. */
function indicesIn(shape: readonly number[]): number[][] {
  const sides = shape.map((dim) => Math.max(dim, 1)); // an axis of none may stand beside a gigantic one
  checkedShape(sides, MAX_ON_HOST);
  return shape.reduce<number[][]>(
    (all, dim) => all.flatMap((index) => Array.from({ length: dim }, (_, place) => [...index, place])),
    [[]],
  );
}
