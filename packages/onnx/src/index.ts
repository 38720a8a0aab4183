export { fromOnnx, type OnnxModel, type OnnxOptions } from './from-onnx.js';
