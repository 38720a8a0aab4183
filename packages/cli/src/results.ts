/* The result files of trials, and the folders that they and checkpoints are in. */
export {
  keepNewestNumerics,
  openResults,
  readResults,
  resultPath,
  runFileIn,
  writeJson,
  writeResult,
  writeRunFile,
  type PooledResults,
  type RunFile,
  type StoredResults,
} from './results/files.js';
export { checkpointFolder, removeCheckpoint, removeCheckpoints, tuningFolder } from './results/folder.js';
export { asJson, canonical, toJson } from './results/json.js';
export {
  FEW_ROWS,
  MAX_MESSAGE,
  primaryMetric,
  SAME_SIZE,
  trialResultSchema,
  type DoneTrial,
  type FailedTrial,
  type HistoryRow,
  type Protocol,
  type SparsityStage,
  type TrialResult,
  type TrialSizing,
  type TrialTuning,
} from './results/schema.js';
export { sizingTable } from './results/sizing-table.js';
