import { headerLength, parseHeader, PREFIX_BYTES } from './header.js';
import { tensorOver, type StoredTensor } from './tensor.js';

/**
 * Every tensor of a file, by name, in the order of their bytes. Where its elements are aligned in memory, a tensor's `data`
 * is a view of `bytes`: do not change the one while the other is in use.
 * @throws SafetensorsError naming the tensor or key at fault.
 */
export function readSafetensors(bytes: Uint8Array): Map<string, StoredTensor> {
  const dataStart = PREFIX_BYTES + headerLength(bytes, bytes.byteLength);
  const { places } = parseHeader(bytes.subarray(PREFIX_BYTES, dataStart), bytes.byteLength - dataStart);
  const tensors = new Map<string, StoredTensor>();
  for (const [name, place] of places) {
    tensors.set(name, tensorOver(place, bytes.subarray(dataStart + place.begin, dataStart + place.end)));
  }
  return tensors;
}
