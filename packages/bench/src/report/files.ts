import { diskStorage, type Storage } from '@peftjs/core';
import type { TrialResult } from '../results/schema.js';
import { writeJson } from '../results/store.js';
import type { Summary } from '../statistics/summary.js';
import { renderCsv, renderSummaryCsv } from './csv.js';
import { renderMarkdown } from './markdown.js';
import { renderReport } from './page.js';

/**
 * Writes DIR/summary.json, report.html, report.md, results.csv and summary.csv, each complete or not at all.
 * @throws CheckpointError when the folder cannot be written.
 */
export async function writeReport(
  dir: string,
  results: readonly TrialResult[],
  summary: Summary,
  storage: Storage = diskStorage(),
): Promise<void> {
  await writeJson(`${dir}/summary.json`, summary, storage);
  const files = {
    'report.html': await renderReport(results, summary),
    'report.md': renderMarkdown(results, summary),
    'results.csv': renderCsv(results),
    'summary.csv': renderSummaryCsv(summary),
  };
  for (const [file, text] of Object.entries(files))
    await storage.write(`${dir}/${file}`, new TextEncoder().encode(text));
}
