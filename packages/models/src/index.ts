export { fromPretrained, type PretrainedModel, type PretrainedOptions } from './pretrained.js';
export type { Encoding, Tokenizer } from './tokenizer.js';
export type { LoadProgress } from './folder.js';
export type { ResolvePackage } from './source.js';
