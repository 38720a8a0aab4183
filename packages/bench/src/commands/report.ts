import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { DataError } from '@peftjs/core';
import { writeReport } from '../report/files.js';
import { renderTable } from '../report/table.js';
import type { TrialResult } from '../results/schema.js';
import { readResults } from '../results/store.js';
import { summarise } from '../statistics/summary.js';
import { compareRuns, type RunComparison } from '../statistics/two-runs.js';

/** `peft-bench report`: the summary and the report of results that are there. */
export function addReportCommand(program: Command): void {
  program
    .command('report')
    .description('write summary and report of a folder of results anew')
    .argument('<folder>', 'the --out folder of a run')
    .option('--reference <arm>', 'the arm that differences are taken to')
    .option('--against <folder>', 'another run of the study, to compare this one with trial by trial')
    .action(async (folder: string, { reference, against }: { reference?: string; against?: string }) => {
      const results = await existingResults(folder);
      const other = against === undefined ? undefined : compareRuns(results, await existingResults(against), against);
      const to = reference ?? (await earlierReference(folder)) ?? firstBudgeted(results);
      await writeReports(folder, to, results, other);
    });
}

/** The results of a folder. @throws DataError when there are none. */
async function existingResults(folder: string): Promise<TrialResult[]> {
  const results = await readResults(folder);
  if (results.length > 0) return results;
  throw new DataError(`${folder} holds no results; peft-bench run --out ${folder} makes them`, folder);
}

/** Writes summary.json and the reports, and shows the table. */
export async function writeReports(
  folder: string,
  reference: string,
  results: readonly TrialResult[],
  against?: RunComparison,
): Promise<void> {
  const summary = { ...summarise(results, { reference }), ...(against ? { against } : {}) };
  await writeReport(folder, results, summary);
  process.stderr.write(
    `\n${renderTable(summary, { columns: process.stderr.isTTY ? process.stderr.columns : 140 })}\n\nreport: ${folder}/report.html\n`,
  );
}

/** The arm that a comparison is to when nobody says: the first with a budget. */
export function firstBudgeted(results: readonly Pick<TrialResult, 'arm' | 'budget'>[]): string {
  return (results.find(({ budget }) => budget.requested !== null) ?? results[0])?.arm ?? '';
}

async function earlierReference(folder: string): Promise<string | undefined> {
  const path = `${folder}/summary.json`;
  if (!existsSync(path)) return undefined;
  try {
    const { reference } = JSON.parse(await readFile(path, 'utf8')) as { reference?: unknown };
    return typeof reference === 'string' ? reference : undefined;
  } catch (cause) {
    throw new DataError(`${path} is not JSON; delete it`, path, cause);
  }
}
