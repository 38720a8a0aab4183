export { readResults } from './results/store.js';
export type { DoneTrial, FailedTrial, HistoryRow, Protocol, TrialResult } from './results/schema.js';
export { summarise, type Summary } from './statistics/summary.js';
export type { SummaryRow } from './statistics/summary-row.js';
export type { Estimate } from './statistics/samples.js';
export { renderReport } from './report/page.js';
export { renderMarkdown } from './report/markdown.js';
export { renderCsv } from './report/csv.js';
