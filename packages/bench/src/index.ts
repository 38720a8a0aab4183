export { readResults } from '@peftjs/cli/results';
export type { DoneTrial, FailedTrial, HistoryRow, Protocol, TrialResult } from '@peftjs/cli/results';
export { summarise, type Summary } from './report/statistics/summary.js';
export type { SummaryRow } from './report/statistics/rows.js';
export type { StabilityRow } from './report/statistics/stability.js';
export type { Estimate } from './report/statistics/estimates.js';
export { renderReport } from './report/page.js';
export { renderMarkdown, verdictMarkdown } from './report/files.js';
export { renderCsv } from './report/files.js';
