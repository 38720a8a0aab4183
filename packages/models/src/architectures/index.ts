export { embedderForAdapter, warnOfOtherPooling } from '../adapter-embedding.js';
export { readAdapterTemplate } from '../adapter-template.js';
export type { Architecture, Decoding, Dropout, Features, Head, Network } from '../architecture.js';
export {
  batchInput,
  checkFinite,
  checkShapes,
  denseHead,
  frozenHead,
  headFor,
  linearHead,
  noHead,
  weightShapes,
} from '../architecture.js';
export {
  precisionOf,
  type Checkpoint,
  type CheckpointFormat,
  type FileFormat,
  type Precision,
  type SourceFiles,
} from '../checkpoint.js';
export {
  cacheNames,
  cachedPrompt,
  nextToken,
  wholeText,
  type Biases,
  type Context,
  type KeysAndValues,
  type TextContext,
} from '../context.js';
export {
  blockDropouts,
  blockSites,
  runBlocks,
  type AttentionPart,
  type Block,
  type BlockPass,
  type FeedForwardPart,
  type NormKind,
} from '../block.js';
export { decoder, type DecoderBlock, type DecoderConfig } from '../decoder.js';
export {
  bertLayerNames,
  encoderNetwork,
  everyTokenOf,
  firstTokenOf,
  type EncoderConfig,
  type EncoderDropout,
  type LayerNames,
} from '../encoder.js';
export { sha256 } from '../fingerprint.js';
export { optionalJson, type ModelFolder } from '../folder.js';
export { aPooling, pooled } from '../pooling.js';
export {
  checkTokens,
  everyToken,
  firstToken,
  lastToken,
  onlyToken,
  positionIds,
  tokenMean,
  type LastToken,
  type Reader,
} from '../reading.js';
export { ropeSettings, type RopeConfig, type RopeDefaults } from '../rope.js';
export type { DecoderDropout, RotaryDecoderConfig, RotaryLayer } from '../rotary-config.js';
export { rotaryDecoder } from '../rotary-decoder.js';
export { createTokenizer, type TokenizerDefinition } from '../tokenizer.js';
export { ownMeaning, transformersFiles } from '../transformers/checkpoint.js';
export { readEmbeddingSettings } from '../transformers/sentence-transformers.js';
export { limitIn, readTokenizer, readTokenizerSettings } from '../transformers/tokenizer.js';
export {
  activation,
  boolean,
  dropoutRate,
  listOf,
  ownActivation,
  positiveInteger,
  orNull,
  positiveNumber,
  assertSetting,
  section,
  readConfig,
  setting,
  nonNegativeInteger,
  padTokenIdOf,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
