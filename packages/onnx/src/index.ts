export { fromOnnx, type GraphSource, type OnnxModel, type OnnxOptions } from './from-onnx.js';
export { saveOnnxGraph, type SavedGraph, type SaveGraphOptions } from './write/save.js';
export type { GraphUse } from './checkpoint.js';
export type { Attribute } from './format/model.js';
export type { Constant, ElementType, Kind, Place } from './format/tensor.js';
export type { Call, Operator, OperatorTable } from './operators/operator.js';
export { isHost, tensorOf, type HostArray, type Value } from './values.js';
