// The names that a program starts with, re-exported from their packages. Each package exports more.
export {
  activeAdapter,
  adafactor,
  adamW,
  addAdapter,
  attach,
  constant,
  convertToLora,
  cosine,
  countParameters,
  deleteAdapter,
  describeParameters,
  disableAdapter,
  diskStorage,
  evaluate,
  fitTemperature,
  fullPrecision,
  hotswapAdapter,
  jsonLines,
  linear,
  lion,
  loadAdapter,
  loadPretrained,
  memoryStorage,
  mergeAdapter,
  mergeAndUnload,
  onWarning,
  PeftError,
  predict,
  savePretrained,
  setAdapter,
  sgd,
  train,
  unmergeAdapter,
  withInputs,
  withReference,
  type Batch,
  type EvaluationData,
  type Executor,
  type InputBatch,
  type Model,
  type PeftModel,
  type Storage,
  type TrainingData,
  type TrainOptions,
} from '@peftjs/core';
export {
  binaryCrossEntropy,
  contrastive,
  cosineSimilarity,
  crossEntropy,
  distillation,
  dpo,
  embeddingDistillation,
  multipleNegativesRanking,
  nextToken,
  orpo,
  squaredError,
  tokenCrossEntropy,
  triplet,
} from '@peftjs/core/losses';
export {
  readSnapshot,
  writeSnapshot,
  type EvaluationEvent,
  type Loss,
  type LossFunction,
  type StepEvent,
  type TrainingSnapshot,
} from '@peftjs/core/runtime';
export { sora } from '@peftjs/sora';
export { lora, truncatedLora } from '@peftjs/lora';
export { adalora } from '@peftjs/adalora';
export { l1ra } from '@peftjs/l1ra';
export { dynamicDora } from '@peftjs/dynamic-dora';
export { alora } from '@peftjs/alora';
export { bayesLora } from '@peftjs/bayes-lora';
export { gora } from '@peftjs/gora';
export { elaLora } from '@peftjs/ela-lora';
export { vera } from '@peftjs/vera';
export { loha } from '@peftjs/loha';
export { lokr } from '@peftjs/lokr';
export { oft } from '@peftjs/oft';
export { lnTuning } from '@peftjs/ln-tuning';
export { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
export { methods } from './methods.js';
export { fromPretrained } from './models.js';
export {
  generate,
  generateChat,
  generateText,
  openGenerator,
  pushToHub,
  saveGguf,
  saveGgufAdapter,
  saveMerged,
  saveOnnx,
  type Answer,
  type ChatMessage,
  type ChatTool,
  type ChatToolCall,
  type GenerateChatOptions,
  type GenerateOptions,
  type GenerateTextOptions,
  type PretrainedModel,
  type PretrainedOptions,
  type PushOptions,
  type TextGenerator,
} from '@peftjs/models';
export {
  causalEvaluation,
  chatML,
  createDataSet,
  describeRows,
  encodeLanguage,
  encodePreferences,
  encodeRows,
  encodeTexts,
  evaluationData,
  inputBatches,
  languageSet,
  mineHardNegatives,
  mostFrequentScores,
  preferenceEvaluation,
  readLanguageTask,
  readTable,
  readTask,
  retrievalMetrics,
  semanticSearch,
  sliceCausal,
  splitSelection,
  trainingData,
  type DataSet,
  type HardNegativesOptions,
  type LanguageSet,
  type MostFrequentScores,
  type Row,
  type RowsDescription,
  type Task,
} from '@peftjs/tasks';
export { pipeline, type PipelineOptions } from './pipeline.js';
export type {
  EntityGroup,
  FeatureExtractor,
  LabelScore,
  PipelineSource,
  RankedDocument,
  TextClassifier,
  TextGenerationPipeline,
  TextRanker,
  TokenClassifier,
  TokenEntity,
} from '@peftjs/pipelines';
export {
  checkOnnx,
  compiled,
  eager,
  exportOnnx,
  exportOnnxFiles,
  listBackends,
  type CompiledOptions,
  type EagerOptions,
} from '@peftjs/engine';
