export { createDataSet, selectRows, type DataSet, type Row, type TaskKind } from './data-set.js';
export type { Task } from './task.js';
export { readTable, type ReadTableOptions, type TableFormat } from './read-table.js';
export { readTask, type ReadTaskOptions } from './read-task.js';
export { embeddedTasks, type EmbeddedTask } from './embedded/embedded-tasks.js';
export type { ReadPackageFile } from './embedded/package-file.js';
export {
  glueName,
  glueTasks,
  type GlueColumns,
  type GlueDev,
  type GlueEntry,
  type GlueName,
} from './published/glue-catalogue.js';
export { glueTask, readGlueFile, readHubGlue } from './published/glue.js';
export { readHubTrec, trecTask } from './published/trec.js';
export type { PublishedTaskOptions, ReadHubFile } from './published/source.js';
export { halfDev, type HalfDevOptions, type Protocol } from './published/protocol.js';
export { sliceRows, splitSelection, type SelectionSplit } from './split.js';
export {
  encodeRows,
  type EncodedData,
  type EncodedRow,
  type EncodeOptions,
  type TokenIds,
  type Tokenizer,
  type Truncation,
} from './encode.js';
export {
  areChats,
  areTexts,
  languageSet,
  readLanguageSet,
  readLanguageTask,
  type ChatRow,
  type DocumentEnd,
  type LanguageSet,
  type LanguageSetOptions,
  type LanguageTask,
  type LanguageTaskFiles,
  type Message,
  type PromptRow,
  type Role,
  type TextRow,
} from './language/language-set.js';
export { chatML, type ChatTemplate } from './language/chat-template.js';
export { encodeLanguage, type CausalTokenizer, type EncodeLanguageOptions } from './language/encode-language.js';
export type { CausalData, CausalRow } from './language/causal-data.js';
export { isLanguageFile } from './language/language-file.js';
export { sliceCausal, splitCausal, type CausalSplit } from './language/split-causal.js';
export { causalEvaluation, type CausalEvaluation } from './language/causal-evaluation.js';
export { meanLogLikelihood, perplexity, tokenLoss, type TokenLoss } from './language/perplexity.js';
export { fittingTokens } from './fitting-tokens.js';
export { paddingShare, trainingData, type BatchOptions, type TrainingOptions } from './batches.js';
export { evaluationData, type EvaluationOptions } from './evaluation-data.js';
export { metricsFor, type Metric, type MetricSet } from './metric-set.js';
export { accuracy, f1, macroF1, matthewsCorrelation, meanSquaredError, pearson, spearman } from './metrics.js';
