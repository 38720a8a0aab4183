export {
  CheckpointError,
  ConfigError,
  DataError,
  didYouMean,
  EngineError,
  PeftError,
  ShapeError,
  TargetModuleError,
  TrainingError,
  UnsupportedError,
} from './errors.js';
export {
  floats,
  hostIntegers,
  hostScalar,
  hostTensor,
  hostZeros,
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
  quantizedModel,
  takesQuantized,
  type QuantizedTensor,
} from './quantized.js';
export type { Axis, CompiledFunction, EngineInfo, Executor, InputSpec, PureFunction } from './contracts/executor.js';
export { NUMERICS } from './numerics.js';
export { createRng, type Rng } from './rng.js';
export type { Batch, DataKind, EvaluationData, Lookup, Model, Scope, Task, TrainingData } from './contracts/model.js';
export {
  trained,
  type AdapterContents,
  type AdapterFile,
  type AdapterLayer,
  type AdapterLayers,
  type Calibration,
  type CalibrationKind,
  type CallableMethod,
  type Capabilities,
  type ConfiguredMethod,
  type Controller,
  type ControllerChanges,
  type ControllerState,
  type ForwardContext,
  type FrozenModule,
  type Init,
  type LoraFactors,
  type MatchOn,
  type ParamSpec,
  type PeftMethod,
  type ResizedLayer,
  type StateSpec,
  type StepContext,
  type TargetConfig,
  type TrainPlan,
  type UpdateContext,
} from './contracts/method.js';
export {
  embeddingSite,
  layerNormSite,
  linearSite,
  type Place,
  type Site,
  type SiteKind,
  type SiteRole,
} from './contracts/site.js';
export { assertLabelNames, labelFields, labelsIn, outputsOf } from './head.js';
export {
  assertKnownOptions,
  describe,
  dropoutRate,
  integerFrom,
  nonNegative,
  onWarning,
  parseOptions,
  positive,
  warnOnce,
  type Warn,
} from './config.js';
export {
  isWithin,
  matches,
  narrowedTo,
  patternValue,
  selectSites,
  targetEntries,
  type TargetReport,
} from './adapter/targets.js';
export { diskStorage, incompleteSave, memoryStorage, writeFolder, type FolderFiles, type Storage } from './storage.js';
export { adaptedSites, attach, defineMethod, type AttachOptions } from './adapter/attach.js';
export { biasLayer, fullModule } from './adapter/layers.js';
export {
  addAdapter,
  deleteAdapter,
  deltaWeight,
  disableAdapter,
  fullPrecision,
  mergeAdapter,
  mergeAndUnload,
  setAdapter,
  unload,
  unmergeAdapter,
  type MergeOptions,
} from './adapter/adapters.js';
export {
  activeAdapter,
  BASE,
  replaceAdapter,
  tensorKey,
  valuesOf,
  withAdapter,
  type Adapter,
  type PeftModel,
} from './adapter/peft-model.js';
export { actingParts, type ActingParts } from './adapter/acting.js';
export { forward, type ForwardTensors } from './adapter/scope.js';
export {
  activeRanks,
  baseParameters,
  countParameters,
  describeParameters,
  layerStatus,
  modelStatus,
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
  nonZeros,
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
  type RankChoice,
  type SingularFactors,
} from './adapter/factors.js';
export { addWeightedAdapter, type CombinationType, type WeightedAdapterOptions } from './files/weighted.js';
export {
  assertCuttable,
  changeRanks,
  cutStep,
  allocatedCost,
  allocatedRanks,
  keepRanks,
  missedCut,
  rankedPaths,
  selectRanks,
  truncated,
  withRankCounts,
  withResized,
  type OfRanks,
  type RankChange,
} from './adapter/ranks.js';
export {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  loadAdapter,
  loadPretrained,
  readAdapterConfig,
  savePretrained,
  type LoadOptions,
  type SaveOptions,
} from './files/pretrained.js';
export { convertToLora, type ConvertOptions } from './files/convert.js';
export {
  getPeftModelStateDict,
  hotswapAdapter,
  setPeftModelStateDict,
  type StateDictOptions,
} from './files/state-dict.js';
export { train, type TrainResult } from './train/train.js';
export {
  trainSettings,
  type EvaluationEvent,
  type Selection,
  type StepEvent,
  type TrainOptions,
  type TrainSettings,
} from './train/options.js';
export {
  sparsify,
  sparsifyingLevels,
  type LevelSpacing,
  type SparsifyData,
  type SparsifyOptions,
  type SparsifySnapshot,
  type StageRecord,
} from './train/sparsify.js';
export { calibrate, type CalibrateOptions } from './train/calibrate.js';
export { evaluate, outputsWith, predict, type EvaluateOptions, type PredictOptions } from './train/evaluate.js';
export {
  constant,
  cosine,
  learningRateFactor,
  linear,
  resolveSchedule,
  type ResolvedSchedule,
  type Schedule,
  type ScheduleName,
  type ScheduleOptions,
  type Warmup,
} from './train/schedules.js';
export { readSnapshot, writeSnapshot, type Checkpoint, type TrainingSnapshot } from './train/snapshot.js';
export {
  clipFactor,
  layerRules,
  objectiveGradients,
  shapedGradients,
  trainedTensors,
  type Gradients,
  type TrainedTensor,
} from './train/step.js';
export { adafactor, type AdafactorOptions } from './optimizers/adafactor.js';
export { adamW, type AdamWOptions } from './optimizers/adamw.js';
export { lion, type LionOptions } from './optimizers/lion.js';
export { sgd, type SgdOptions } from './optimizers/sgd.js';
export type { CarriedKind, CarriedLike, CarrySlot, Optimizer, OptimizerStep, Slot } from './optimizers/optimizer.js';
export type { Loss, LossBatch } from './losses/loss.js';
export { crossEntropy, lossFor, nextToken, squaredError, tokenCrossEntropy } from './losses/losses.js';
export type { Named, Settings } from './settings.js';
export { stepContext } from './runtime/context.js';
export { modelInputs, openSpecs } from './runtime/inputs.js';
export { drawNoise } from './runtime/noise.js';
export {
  downloadAll,
  openProgram,
  releaseAll,
  uploadAll,
  type AtRest,
  type Held,
  type Leaves,
  type Program,
  type Specs,
  type Values,
} from './runtime/program.js';
export {
  frozenWeights,
  openRuntime,
  releaseRuntimes,
  type FrozenValues,
  type Pass,
  type PassInputs,
  type PassSpecs,
  type ReadyPass,
  type Runtime,
} from './runtime/runtime.js';
export {
  assertOneRank,
  assertWithinBase,
  compactPattern,
  isNearBudget,
  rankCost,
  ranksForBudget,
  rankUnit,
  selectWithinBudget,
  sitesForBudget,
  type BudgetItem,
  type RankTable,
} from './adapter/budget.js';
export {
  adaptedPaths,
  assertFeatures,
  gatedLoraFiles,
  loraFile,
  matrixOf,
  readLoraFile,
  warnOfUnknownTensors,
  type GatedFiles,
  type GatedFormat,
  type LoraFileContents,
} from './files/lora-file.js';
export { qr, type QrFactors } from './linalg/qr.js';
export { symmetricInverse, type InverseOptions } from './linalg/matrix.js';
export { truncatedSvd, type SvdOptions, type TruncatedSvd } from './linalg/truncated-svd.js';
