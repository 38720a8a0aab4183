export { SafetensorsError } from './errors.js';
export type { DType, ElementArrays } from './tensor.js';
export type { StoredTensor, TensorSpec } from './tensor.js';
export { toFloat16, toFloat32 } from './tensor.js';
export { readSafetensors } from './open.js';
export { openSafetensors, type SafetensorsFile, type TensorPiece } from './open.js';
export { openSharded } from './shards.js';
export { bytesSource, fileSource, type ByteSource, type OpenSource } from './open.js';
export { writeSafetensors, type Named } from './write.js';
