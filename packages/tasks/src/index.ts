export {
  createDataSet,
  selectRows,
  type DataSet,
  type Row,
  type Task,
  type TaskKind,
} from './data-set.js';
export { readTable, type ReadTableOptions, type TableFormat } from './read-table.js';
export { readTask, type ReadTaskOptions } from './read-task.js';
export { embeddedTasks, type EmbeddedTask } from './embedded/embedded-tasks.js';
export type { ReadPackageFile } from './embedded/package-file.js';
export { sliceRows, splitSelection, type SelectionSplit } from './split.js';
export { encodeRows, type EncodedData, type EncodedRow, type TokenIds, type Tokenizer } from './encode.js';
export { chooseBuckets, type BucketOptions } from './buckets.js';
export { paddingShare, type BatchOptions } from './batch.js';
export { trainingData, type TrainingOptions } from './training-data.js';
export { evaluationData, type EvaluationOptions } from './evaluation-data.js';
export { metricsFor, type Metric, type MetricSet } from './metric-set.js';
export {
  accuracy,
  f1,
  macroF1,
  matthewsCorrelation,
  meanSquaredError,
  pearson,
  spearman,
} from './metrics.js';
