// The entry for executors and training loops: programs, a model's runtime, and the options and results of training.
export { NUMERICS } from './numerics.js';
export type {
  Axis,
  CompiledFunction,
  CompileOptions,
  EngineInfo,
  InputSpec,
  PureFunction,
} from './contracts/executor.js';
export {
  downloadAll,
  nextTask,
  openProgram,
  releaseAll,
  uploadAll,
  type OnHost,
  type OnDevice,
  type Leaves,
  type Program,
  type Specs,
  type Values,
} from './runtime/program.js';
export {
  frozenWeights,
  openRuntime,
  releaseRuntimes,
  type ForwardPass,
  type PassInputs,
  type Runtime,
} from './runtime/runtime.js';
export { namedAxes } from './runtime/axes.js';
export { modelInputs, dynamicSpecs } from './runtime/inputs.js';
export { identityOf, leases, type Leases } from './runtime/leases.js';
export { drawNoise, networkDropout, stepContext } from './runtime/context.js';
export { activeParts, type ActiveParts } from './adapter/active-parts.js';
export { forward, peftScope } from './adapter/scope.js';
export { nameAndSettings } from './settings.js';
export { assertLossReads, type Loss, type LossBatch, type LossFunction } from './losses/loss.js';
export type { MarginOptions, MultipleNegativesRankingOptions } from './losses/embeddings.js';
export type { DistillationOptions, EmbeddingDistillationOptions } from './losses/distillation.js';
export type { DpoOptions, OrpoOptions } from './losses/preferences.js';
export { type BinaryCrossEntropyOptions, type CrossEntropyOptions, defaultLoss } from './losses/losses.js';
export type { CarryKind, CarryRule, CarrySlot, Optimizer, OptimizerStep, Slot } from './optimizers/optimizer.js';
export type { AdafactorOptions } from './optimizers/adafactor.js';
export type { AdamWOptions } from './optimizers/adamw.js';
export type { LionOptions } from './optimizers/lion.js';
export type { SgdOptions } from './optimizers/sgd.js';
export { HEAD_LEARNING_RATE, LEARNING_RATE } from './train/plan.js';
export {
  resolveSchedule,
  type Schedule,
  type ScheduleName,
  type ScheduleOptions,
  type Warmup,
} from './train/schedules.js';
export {
  applyLayerRules,
  objectiveGradients,
  applyGradientRules,
  trainedTensors,
  type TrainedTensor,
} from './train/step.js';
export type { EarlyStopping, EvaluationEvent, Interval, Selection, StepEvent, TrainResult } from './train/options.js';
export type { StageResult } from './train/stages.js';
export { inEpochs } from './train/with-inputs.js';
export type { Sizing, SizingStage } from './train/size-stages.js';
export type { CalibrateOptions } from './train/calibrate.js';
export {
  evaluationOutputs,
  type EvaluateOptions,
  type EvaluationProgress,
  type PredictOptions,
} from './train/evaluate.js';
export { readSnapshot, writeSnapshot, type Checkpoint, type TrainingSnapshot } from './train/snapshot.js';
export {
  sparsify,
  sparsifyingLevels,
  type LevelSpacing,
  type SparsifyData,
  type SparsifyOptions,
  type SparsifySnapshot,
  type StageRecord,
} from './train/sparsify.js';
export type { EventLines } from './train/json-lines.js';
