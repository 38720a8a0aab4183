import '../tensorflow.js';
export { activations, gelu, geluTanh, silu, type ActivationName } from './activations.js';
export {
  attention,
  causalBias,
  headAttention,
  HIDDEN,
  maskBias,
  mergeHeads,
  softCapped,
  splitHeads,
  type AttentionOptions,
  type HeadAttentionOptions,
} from './attention.js';
export { softmaxCrossEntropy } from './cross-entropy.js';
export { dropout } from './dropout.js';
export type { AttentionInputs, AttentionSettings, FusedKernels, QuantizedInputs } from './fused.js';
export { embedding, fromRows, frozenLinear, linear, toRows } from './linear.js';
export { frozenLayerNorm, frozenRmsNorm, l2Normalize, layerNorm, rmsNorm } from './norms.js';
export { dequantized, isTable, quantizedEmbedding, quantizedLinear, type QuantizedWeight } from './quantized.js';
export { rotary, type RotaryOptions } from './rotary.js';
