// The entry for authors of models, engines and other hosts: networks and sites, arguments, heads, weights in few bits,
// adapters, files and storage.
export type {
  RowPredictions,
  RowValue,
  DataKind,
  Lookup,
  PastDecoding,
  ProblemType,
  Scope,
  SplitForward,
  Task,
  TiedModule,
} from './contracts/model.js';
export { readsImages } from './contracts/model.js';
export { didYouMean, firstNames } from './errors.js';
export { assertArgument, assertKnownOptions, assertOneOf, closed } from './config.js';
export {
  aFunction,
  aList,
  aModel,
  anInteger,
  anything,
  aRecord,
  aSignal,
  aText,
  aTextList,
  objectLike,
} from './kinds.js';
export { specOf, type ByteType, type DType, type HostBytes, type TensorSpec } from './tensors.js';
export {
  assertFullPrecision,
  isQuantized,
  formOf,
  quantized,
  quantizedBytes,
  quantizedFilling,
  quantizedModel,
  rowOf,
  canQuantize,
  WEIGHT_DTYPES,
  type QuantizedFilling,
  type QuantizedForm,
  type QuantizedParts,
  type QuantizedTensor,
  type WeightDtype,
} from './quantized.js';
export {
  conversationProblem,
  messageProblem,
  toolsProblem,
  type ChatMessage,
  type ChatTool,
  type ChatToolCall,
} from './contracts/conversation.js';
export { embeddingSite, layerNormSite, linearSite, type SitePosition, type SiteKind } from './contracts/site.js';
export {
  assertLabelNames,
  isInHead,
  labelFields,
  labelsIn,
  outputMeaning,
  outputsOf,
  PROBLEM_TYPES,
  problemTypeIn,
  problemTypeOf,
} from './head.js';
export { adaptedSites, deltaOf, type AttachOptions } from './adapter/attach.js';
export { EVERY_MODULE, matches, selectSites } from './adapter/targets.js';
export { anyModel, replaceAdapter, tensorKey, valuesOf, type Adapter } from './adapter/peft-model.js';
export type { MergeOptions } from './adapter/adapters.js';
export { baseParameters, optimizerStateBytes, storedParameters, type ParameterCount } from './adapter/accounting.js';
export { withResized } from './ranks/changes.js';
export { assertWithinBase } from './ranks/budget.js';
export {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  readAdapterConfig,
  type LoadOptions,
  type SaveOptions,
} from './files/pretrained.js';
export { ADAPTER_METHOD } from './files/adapter-tensors.js';
export { isChatConfig, taskIn } from './files/adapter-config.js';
export { assertConvertible, type ConvertOptions } from './files/convert.js';
export type { StateDictOptions } from './files/state-dict.js';
export type { CombinationType } from './adapter/combination.js';
export type { WeightedAdapterOptions } from './files/weighted.js';
export { isDead, isDeadTag, ownIdentity, ownTag, type ProcessIdentity } from './disk/process-identity.js';
export { freeMemory } from './free-memory.js';
export { nodeModule } from './node.js';
export { jsonParts } from './json-parts.js';
export { aReadStorage, aStorage, incompleteSave, UNFINISHED_FILE, writeFolders } from './storage.js';
export { cardHeader, shownName } from './files/model-card.js';
