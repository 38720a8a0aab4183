export {
  createDataSet,
  selectRows,
  taskKinds,
  type DataSet,
  type LabelKind,
  type MultiLabelRow,
  type Row,
  type RowsByKind,
  type ScoredRow,
  type TaggedRow,
  type TaskKind,
  type TextsRow,
  type TripletRow,
} from './data-set.js';
export type { ColumnOptions } from './columns.js';
export { describeRows, type ClassCount, type DescribedRows, type RowsDescription } from './describe.js';
export type { JoinedLabels } from './joined-labels.js';
export { mostFrequentScores, type MostFrequentScores } from './most-frequent.js';
export { readTable, type ReadTableOptions, type TableFormat, type TableReader } from './read-table.js';
export { readLanguageTask, readTask, type LanguageTaskFiles, type ReadTaskOptions } from './read-task.js';
export type { Table, TableRecord } from './table.js';
export { embeddedTasks, type EmbeddedTask, type ReadPackageFile } from './embedded.js';
export { glueName, glueTasks, type GlueEntry, type GlueName, glueTask, readHubGlue } from './glue.js';
export { readHubTrec, trecTask } from './trec.js';
export {
  type PublishedTaskOptions,
  type ReadHubFile,
  halfDev,
  type HalfDevOptions,
  type PublishedColumns,
  type PublishedSplit,
} from './published.js';
export {
  holdOutDev,
  flipLabels,
  sliceRows,
  splitSelection,
  type SelectionSplit,
  sliceCausal,
  splitCausal,
  type CausalSplit,
} from './split.js';
export {
  encodeRows,
  encodeTexts,
  type EncodedData,
  type EncodedMultiLabelRow,
  type EncodedRow,
  type EncodedRowsByKind,
  type EncodedScoredRow,
  type EncodedTaggedRow,
  type EncodedText,
  type EncodedTextsRow,
  type EncodeOptions,
  type TokenIds,
  type Tokenizer,
  type Truncation,
  type WordTokens,
  chooseMaxTokens,
  rowLength,
} from './encode.js';
export {
  isChatSet,
  isPreferenceSet,
  isTextSet,
  languageSet,
  readLanguageSet,
  type ChatRow,
  type DocumentEnd,
  type LanguageSet,
  type LanguageSetOptions,
  type LanguageTask,
  type Message,
  type PreferenceRow,
  type PromptRow,
  type Role,
  type TextRow,
  isLanguageFile,
} from './language.js';
export {
  chatML,
  type ChatTemplate,
  encodeLanguage,
  encodePreferences,
  type CausalTokenizer,
  type EncodeLanguageOptions,
  type CausalData,
  type CausalRow,
  type EncodedPreferenceRow,
  type PreferenceData,
} from './encode-language.js';
export { evaluationData, type EvaluationOptions, type LabelledEvaluation } from './evaluation.js';
export { preferenceEvaluation, type PreferenceEvaluationOptions } from './preference-evaluation.js';
export { causalEvaluation, type CausalEvaluation } from './causal-evaluation.js';
export { semanticSearch, type SearchHit, type SemanticSearchOptions } from './nearest.js';
export { mineHardNegatives, type Embed, type HardNegativesOptions } from './hard-negatives.js';
export { inputBatches, paddingShare, trainingData, type BatchOptions, type TrainingOptions } from './batches.js';
export {
  accuracy,
  f1,
  macroF1,
  matthewsCorrelation,
  meanSquaredError,
  pearson,
  spearman,
  type RowMetric,
  type WeightedMetric,
} from './metrics/values.js';
export { expectedCalibrationError } from './metrics/calibration.js';
export { entityF1, entityScores, type EntityScore, type EntityScores, type TagSequences } from './metrics/entities.js';
export { f1OfLabels, macroF1OfLabels, microF1, type LabelRows } from './metrics/labels.js';
export {
  meanReciprocalRank,
  ndcgAt,
  rankByScore,
  recallAt,
  retrievalMetrics,
  type Ranking,
} from './metrics/retrieval.js';
export {
  metricNamed,
  metricsFor,
  weightedMetric,
  type Metric,
  type MetricSet,
  type PredictionsByKind,
  type Task,
} from './task.js';
