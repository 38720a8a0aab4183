import { elementsOf, widthOf, type DType, type ElementArrays } from './dtype.js';
import { quote, SafetensorsError } from './errors.js';

/** Shape and element type of a stored tensor. */
export interface TensorSpec {
  readonly dtype: DType;
  /** Sizes of the axes, outermost first; `[]` for a scalar. */
  readonly shape: readonly number[];
}

/** A tensor as a file holds it, row by row; `dtype` tells which typed array `data` is. */
export type StoredTensor = {
  readonly [D in DType]: {
    readonly dtype: D;
    /** Sizes of the axes, outermost first; `[]` for a scalar. */
    readonly shape: readonly number[];
    readonly data: ElementArrays[D];
  };
}[DType];

/** Axes of a tensor, as many as NumPy allows. */
export const MAX_RANK = 64;
const MAX_DIMENSION = 2 ** 31 - 1;

/** Bytes that a tensor takes. @throws SafetensorsError naming the tensor when its shape is impossible. */
export function byteLengthOf(name: string, { dtype, shape }: TensorSpec): number {
  if (shape.length > MAX_RANK) {
    throw new SafetensorsError(`tensor ${quote(name)} has ${shape.length} axes, at most ${MAX_RANK} are read`, name);
  }
  let bytes = widthOf(dtype);
  for (const [axis, size] of shape.entries()) {
    if (!Number.isInteger(size) || size < 0 || size > MAX_DIMENSION) {
      throw new SafetensorsError(
        `tensor ${quote(name)}: axis ${axis} has size ${size}, expected an integer from 0 to ${MAX_DIMENSION}`,
        name,
      );
    }
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) {
      throw new SafetensorsError(`tensor ${quote(name)} of shape [${shape.join(', ')}] is larger than any file`, name);
    }
  }
  return bytes;
}

/** A tensor over bytes that fill its shape. Shares their memory where it is aligned. */
export function tensorOver({ dtype, shape }: TensorSpec, bytes: Uint8Array): StoredTensor {
  return { dtype, shape, data: elementsOf(dtype, bytes) } as StoredTensor;
}
