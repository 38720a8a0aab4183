export { attention, maskBias, mergeHeads, splitHeads } from './attention.js';
export type { AttentionOptions } from './attention.js';
export { dropout } from './dropout.js';
export { embedding } from './embedding.js';
export { gelu } from './gelu.js';
export { layerNorm } from './layer-norm.js';
export { fromRows, linear, toRows } from './linear.js';
