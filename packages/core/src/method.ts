// The entry for authors of methods, models and readers: contracts, options, tensors, factors, ranks, budgets and files.
export {
  CheckpointError,
  ConfigError,
  DataError,
  didYouMean,
  EngineError,
  ShapeError,
  TargetModuleError,
  TrainingError,
  UnsupportedError,
} from './errors.js';
export {
  assertArgument,
  assertKnownOptions,
  assertOneOf,
  describe,
  dropoutRate,
  finite,
  integerFrom,
  keptShare,
  nonNegative,
  parseOptions,
  positive,
  positiveShare,
  warnOnce,
  type Warn,
} from './config.js';
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
export { createRng, type Rng } from './rng.js';
export {
  floats,
  hostFilled,
  hostIntegers,
  hostScalar,
  hostZeros,
  mapValues,
  sizeOf,
  specOf,
  tensorAt,
  tensorsAt,
  transposed,
  type DType,
  type HostBytes,
  type HostTensor,
  type HostTensors,
  type Tensors,
  type TensorSpec,
} from './tensors.js';
export {
  assertFullPrecision,
  isQuantized,
  quantized,
  quantizedColumns,
  quantizedModel,
  canQuantize,
  type QuantizedTensor,
} from './quantized.js';
export {
  conversationProblem,
  messageProblem,
  toolsProblem,
  type ChatMessage,
  type ChatTool,
  type ChatToolCall,
} from './contracts/conversation.js';
export type { DataKind, Lookup, PastDecoding, ProblemType, Scope, Task, TiedModule } from './contracts/model.js';
export {
  embeddingSite,
  layerNormSite,
  linearSite,
  type SitePosition,
  type Site,
  type SiteKind,
  type SiteRole,
} from './contracts/site.js';
export {
  type Controller,
  type ControllerChanges,
  type ControllerState,
  type ResizedLayer,
  type TrainPlan,
} from './contracts/controller.js';
export {
  trained,
  type AdapterLayer,
  type AdapterLayers,
  type ForwardContext,
  type FrozenModule,
  type LoraFactors,
  type ParamSpec,
  type StateSpec,
  type StepContext,
  type UpdateContext,
} from './contracts/layer.js';
export {
  type AdapterContents,
  type AdapterFile,
  type Calibration,
  type CalibrationKind,
  type CallableMethod,
  type Capabilities,
  type ConfiguredMethod,
  type Init,
  type MatchOn,
  type PeftMethod,
  type SizeStages,
  type TargetConfig,
} from './contracts/method.js';
export {
  assertLabelNames,
  isInHead,
  labelFields,
  labelsIn,
  outputMeaning,
  outputsOf,
  problemTypeIn,
  problemTypeOf,
  type OutputMeaning,
} from './head.js';
export { adaptedSites, defineMethod, type AttachOptions } from './adapter/attach.js';
export {
  EVERY_MODULE,
  isModuleToSave,
  matches,
  narrowTargets,
  patternValue,
  selectSites,
  targetEntries,
  tokenEntries,
  type MethodOptions,
  type TargetReport,
} from './adapter/targets.js';
export { biasLayer, biasLayers, fullLayer } from './adapter/layers.js';
export { changeNoise, dropChange, type ChangeDropout } from './adapter/change-dropout.js';
export { allLayers, anyModel, replaceAdapter, tensorKey, valuesOf, type Adapter } from './adapter/peft-model.js';
export type { MergeOptions } from './adapter/adapters.js';
export {
  baseParameters,
  optimizerStateBytes,
  storedParameters,
  type LayerStatus,
  type ModelStatus,
  type ParameterCount,
} from './adapter/accounting.js';
export {
  foldDiagonal,
  joinFactors,
  kaimingUniform,
  loraDelta,
  nonZeroIndices,
  normalValues,
  pickColumns,
  pickRows,
  placeColumns,
  placeRows,
  rowNorms,
  scaleColumns,
  scaled,
  scaleRows,
  singularFactors,
  uniformValues,
  matrixProduct,
  joinColumns,
  type RankChoice,
  type SingularFactors,
} from './ranks/factors.js';
export {
  allocatedRanks,
  changeRanks,
  keepRanks,
  rankedPaths,
  totalRanks,
  withRankCounts,
  withResized,
  type RankChange,
} from './ranks/changes.js';
export {
  allocatedCost,
  bestFirst,
  dealRanks,
  fillBudget,
  pruneStep,
  rankCostIn,
  ranksByPath,
  scoredRanks,
  selectRanks,
  type RankCost,
  type RankDeal,
  type RankScores,
  type ScoredRank,
} from './ranks/competition.js';
export { truncateToBudget } from './ranks/truncation.js';
export {
  assertOneRank,
  assertWithinBase,
  compactPattern,
  fullRank,
  rankCost,
  ranksForBudget,
  startingRankForBudget,
  rankUnit,
  RANKS_PER_KEPT_RANK,
  sitesForBudget,
  type RankTable,
  moduleRank,
  rankPatterns,
  type ModuleRank,
  startingRank,
  withRanksForBudget,
} from './ranks/budget.js';
export { rankLayer, type RankLayer } from './ranks/rank-layer.js';
export {
  budgetEntries,
  dropoutEntries,
  rankEntries,
  type RankConfig,
  type RankMethod,
  type RankOptions,
} from './ranks/definition.js';
export { rankMethod } from './ranks/rank-method.js';
export { rankValues, type RankDecision, type RankPolicy, type RankReading } from './ranks/rank-policy.js';
export { firstWithinBudget, isNearBudget, selectWithinBudget, type BudgetItem } from './ranks/within-budget.js';
export {
  adaptedPaths,
  assertFeatures,
  assertKnownVariant,
  fanInFanOut,
  loraFile,
  matrixOf,
  moduleTable,
  readLoraFile,
  assertNoOtherTensors,
  vectorOf,
  type LoraFileContents,
} from './files/lora-file.js';
export { adaptedModules, fieldsOf, optionsIn, rankFields, ranksIn } from './files/method-file.js';
export {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  readAdapterConfig,
  type LoadOptions,
  type SaveOptions,
} from './files/pretrained.js';
export { ADAPTER_METHOD } from './files/adapter-tensors.js';
export { taskIn } from './files/adapter-config.js';
export type { ConvertOptions } from './files/convert.js';
export type { StateDictOptions } from './files/state-dict.js';
export type { CombinationType } from './adapter/combination.js';
export type { WeightedAdapterOptions } from './files/weighted.js';
export { isDead, isDeadTag, ownIdentity, ownTag, type ProcessIdentity } from './disk/process-identity.js';
export { UNFINISHED_FILE } from './disk/files.js';
export { aReadStorage, aStorage, incompleteSave, writeFolders, type FolderFiles, type StoredFile } from './storage.js';
export { qr, type QrFactors } from './linalg/qr.js';
export { symmetricInverse, type InverseOptions } from './linalg/matrix.js';
export { truncatedSvd, type SvdOptions, type TruncatedSvd } from './linalg/truncated-svd.js';
export { cardHeader, type CardFields } from './files/model-card.js';
