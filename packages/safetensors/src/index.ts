export { SafetensorsError } from './errors.js';
export type { DType, ElementArrays } from './dtype.js';
export type { StoredTensor, TensorSpec } from './tensor.js';
export { toFloat32 } from './float32.js';
export { readSafetensors } from './read.js';
export { openSafetensors, type SafetensorsFile } from './open.js';
export { openSharded } from './shards.js';
export { bytesSource, fileSource, type ByteSource, type OpenSource } from './source.js';
export { writeSafetensors, type Named } from './write.js';
