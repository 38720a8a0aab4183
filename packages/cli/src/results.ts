/* The result files of trials, and the folders that they and checkpoints are in. */
export {
  exclusionNotes,
  foreignNumerics,
  keepNewestNumerics,
  numericsOf,
  readResults,
  resultPath,
  runFileIn,
  withNewestDate,
  writeJson,
  writeResult,
  writeRunFile,
  type PooledResults,
} from './results/files.js';
export { checkpointFolder, removeCheckpoint, removeCheckpoints, tuningFolder } from './results/folder.js';
export { anyNumber, asJson, canonical, toJson } from './results/json.js';
export {
  MAX_MESSAGE,
  primaryMetric,
  trialResultSchema,
  type DoneTrial,
  type FailedTrial,
  type HistoryRow,
  type Protocol,
  type SparsityStage,
  type TrialResult,
  type TrialSizing,
} from './results/schema.js';
export { sizingTable } from './results/sizing-table.js';
