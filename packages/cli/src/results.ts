/* The result files of trials, and the folders that they and checkpoints are in. */
export * from './results/files.js';
export * from './results/folder.js';
export { asJson, canonical, toJson } from './results/json.js';
export * from './results/schema.js';
export { sizingTable } from './results/sizing-table.js';
