// The entry for authors of methods: contracts, options, tensors, targets, files and errors.
export {
  CheckpointError,
  ConfigError,
  DataError,
  EngineError,
  ShapeError,
  TargetModuleError,
  TrainingError,
  UnsupportedError,
} from './errors.js';
export {
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
} from './config.js';
export { createRng, type Rng } from './rng.js';
export {
  floats,
  grouped,
  hostFilled,
  hostIntegers,
  hostScalar,
  hostZeros,
  mapTensor,
  mapValues,
  sizeOf,
  tensorAt,
  tensorsAt,
  type HostTensor,
  type HostTensors,
  type Tensors,
} from './tensors.js';
export type { Site, SiteRole } from './contracts/site.js';
export type {
  Controller,
  ControllerChanges,
  ControllerState,
  ResizedLayer,
  TrainPlan,
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
export type {
  AdapterContents,
  AdapterFile,
  Calibration,
  CalibrationKind,
  CallableMethod,
  Capabilities,
  ConfiguredMethod,
  Init,
  MatchOn,
  PeftMethod,
  SizeStages,
  TargetConfig,
} from './contracts/method.js';
export { defineMethod } from './adapter/attach.js';
export { narrowTargets, patternValue, targetEntries, tokenEntries, type MethodOptions } from './adapter/targets.js';
export { biasLayer, biasLayers, fixedLayer, fullLayer, layersByPath } from './adapter/layers.js';
export { changeNoise, dropChange, lycorisEntries, type ChangeDropout } from './adapter/change-dropout.js';
export { allLayers } from './adapter/peft-model.js';
export {
  adaptedModules,
  assertKnownVariant,
  fanInFanOut,
  loraFile,
  matrixOf,
  readLoraFile,
  type LoraFileContents,
} from './files/lora-file.js';
export {
  fieldsOf,
  fileFormat,
  optionsIn,
  readTensors,
  writtenTensors,
  type FileFormat,
  type ModuleTensors,
} from './files/method-file.js';
