export { compiled } from './compiled/compiled.js';
export type { CompiledOptions } from './compiled/compiled.js';
export type { ExecutionProvider, OrtRuntime, OrtTensor } from './compiled/runtime.js';
export { trace } from './compiled/trace.js';
export type { TracedGraph } from './compiled/trace.js';
export type { GraphBuilder, Value } from './compiled/graph.js';
export type {
  Attribute,
  ConstantData,
  ElementType,
  GraphConstant,
  GraphNode,
  GraphPort,
  NodeOptions,
  NodeOutput,
  ValueType,
} from './compiled/parts.js';
export type { Kernel, KernelTable } from './compiled/kernels/kernel.js';
export { exportOnnx, exportOnnxFiles } from './export/export-onnx.js';
export { checkOnnx } from './export/check-onnx.js';
export type { OnnxCheckOptions } from './export/check-onnx.js';
export type { OnnxDtype, OnnxFiles, OnnxFilesOptions, OnnxOptions, TextInput } from './export/export-onnx.js';
export { eager } from './eager/eager.js';
export type { EagerOptions } from './eager/eager.js';
export type { EagerBackend } from './eager/backends.js';
export { listBackends } from './list-backends.js';
export type { BackendReport } from './list-backends.js';
