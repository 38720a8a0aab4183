export { GgufError } from './errors.js';
export type { MetadataArray, MetadataValue } from './metadata.js';
export { toFloat32, type GgufTensor, type TensorSpec, type TensorType } from './blocks.js';
export { fromFloat32, type EncodedType } from './encode.js';
export { openGguf, type GgufFile, type TensorPiece } from './open.js';
export { writeGguf } from './write.js';
export type { Named } from '@peftjs/safetensors';
