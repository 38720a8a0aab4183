import { UnsupportedError } from '@peftjs/core/method';
import { toFloat16 } from '@peftjs/safetensors';
import { written } from '../format/message.js';
import { TYPES, type ElementType } from '../format/tensor.js';

/**
 * Returns the bytes of float32 numbers in a type of a file; float16 is rounded to nearest.
 * @throws UnsupportedError for types other than float16, float32 and float64.
 */
export function encoded(type: ElementType, numbers: Float32Array): Uint8Array {
  if (type === 'float32') return bytesOf(numbers);
  if (type === 'float64') return bytesOf(Float64Array.from(numbers));
  if (type === 'float16') return bytesOf(toFloat16(numbers));
  throw new UnsupportedError(
    `a changed weight cannot be written as ${type}: export the model in float32 or float16`,
    type,
  );
}

function bytesOf({ buffer, byteOffset, byteLength }: Exclude<ArrayBufferView, DataView>): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Fields of a GraphProto. */
export const [NODE, INITIALIZER, INPUT, OUTPUT] = [1, 5, 11, 12];

/** Returns a TensorProto. */
export function tensorProto(name: string, type: ElementType, shape: readonly number[], bytes: Uint8Array): Uint8Array {
  return written({ 1: shape, 2: TYPES[type].id, 8: name, 9: bytes });
}

/** Returns a TensorProto of float32. */
export function floatsProto(name: string, shape: readonly number[], numbers: Float32Array): Uint8Array {
  return tensorProto(name, 'float32', shape, bytesOf(numbers));
}

/** Returns a TensorProto of a vector of integers. */
export function intsProto(name: string, numbers: readonly number[]): Uint8Array {
  return tensorProto(name, 'int64', [numbers.length], bytesOf(BigInt64Array.from(numbers, BigInt)));
}

/** AttributeProto.AttributeType */
const INT = 2;

/** Returns a NodeProto of one output, which names it too. */
export function nodeProto(
  op: string,
  inputs: readonly string[],
  output: string,
  attributes: Readonly<Record<string, number>> = {},
  name = output,
): Uint8Array {
  const own = Object.entries(attributes).map(([key, value]) => ({ 1: key, 3: value, 20: INT }));
  return written({ 1: inputs, 2: output, 3: name, 4: op, 5: own });
}

/** Returns a ValueInfoProto of a tensor; a named axis has any size. */
export function portProto(
  name: string,
  shape: readonly (number | string)[],
  type: ElementType = 'float32',
): Uint8Array {
  const dims = shape.map((dim) => (typeof dim === 'number' ? { 1: dim } : { 2: dim }));
  return written({ 1: name, 2: { 1: { 1: TYPES[type].id, 2: { 1: dims } } } });
}
