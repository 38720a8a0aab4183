export { fromOnnx, type OnnxModel, type OnnxOptions } from './from-onnx.js';
export { mergedGraph, saveOnnxGraph, type MergedGraph, type SavedGraph, type SaveGraphOptions } from './write/save.js';
export type { GraphSource } from './checkpoint.js';
export type { Attribute } from './format/model.js';
export type { Constant, ElementType, Kind, Place } from './format/tensor.js';
export type { Call, Operator, OperatorTable } from './operators/operator.js';
export { isHost, tensorOf, type HostArray, type Value } from './values.js';
