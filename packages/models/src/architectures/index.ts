export type { Architecture, Decoding, Features, Head, Network } from '../architecture.js';
export {
  batchInput,
  checkFinite,
  checkShapes,
  denseHead,
  frozenHead,
  headFor,
  linearHead,
  weightShapes,
} from '../architecture.js';
export type { Checkpoint, CheckpointFormat, SourceFiles } from '../checkpoint.js';
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
export { decoder } from '../decoder.js';
export {
  afterAttention,
  bertLayerNames,
  encoderNetwork,
  everyTokenOf,
  firstTokenOf,
  layerSites,
  type EncoderConfig,
  type LayerConfig,
  type LayerNames,
  type LayerLocation,
} from '../encoder.js';
export type { ModelFolder } from '../folder.js';
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
export { rotaryDecoder, type RotaryDecoderConfig, type RotaryLayer } from '../rotary-decoder.js';
export { createTokenizer, type TokenizerDefinition } from '../tokenizer.js';
export {
  activation,
  boolean,
  listOf,
  ownActivation,
  positiveInteger,
  positiveIntegerOrNull,
  positiveNumber,
  positiveNumberOrNull,
  assertSetting,
  section,
  setting,
  nonNegativeInteger,
  padTokenIdOf,
  type ConfigFile,
  type ModelType,
} from '../transformers/config.js';
