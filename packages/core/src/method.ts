// The entry for authors of methods: contracts, options, tensors, targets, ranks, budgets, files and errors.
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
  hostFilled,
  hostIntegers,
  hostScalar,
  hostZeros,
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
export { biasLayer, biasLayers, fullLayer } from './adapter/layers.js';
export { changeNoise, dropChange, type ChangeDropout } from './adapter/change-dropout.js';
export { allLayers } from './adapter/peft-model.js';
export { uniformValues, matrixProduct, joinColumns } from './ranks/factors.js';
export { allocatedRanks, changeRanks, keepRanks, rankedPaths, totalRanks, withRankCounts } from './ranks/changes.js';
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
  compactPattern,
  fullRank,
  rankCost,
  ranksForBudget,
  startingRankForBudget,
  rankUnit,
  RANKS_PER_KEPT_RANK,
  sitesForBudget,
  moduleRank,
  rankPatterns,
  type ModuleRank,
  startingRank,
  withRanksForBudget,
} from './ranks/budget.js';
export { rankLayer } from './ranks/rank-layer.js';
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
