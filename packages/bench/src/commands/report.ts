import type { Command } from 'commander';
import { DataError } from '@peftjs/core';
import { writeReport } from '../report/files.js';
import { renderTable } from '../report/table.js';
import { leftOutNotes, ofNewestNumerics, type Poolable } from '../results/numerics.js';
import { referenceIn } from '../results/run-file.js';
import type { TrialResult } from '../results/schema.js';
import { readResults } from '../results/store.js';
import { summarise } from '../statistics/summary.js';
import { compareRuns } from '../statistics/two-runs.js';

/** What a report is to be like, beyond what its folder says. */
interface ReportOptions {
  /** The arm that differences are taken to. Default that of the run. */
  readonly reference?: string;
  /** Another folder, to be compared with trial by trial. */
  readonly against?: string;
}

/** `peft-bench report`: the summary and the report of results that are there. */
export function addReportCommand(program: Command): void {
  program
    .command('report')
    .description('regenerate the summary and the reports from a results folder')
    .argument('<folder>', 'the --out folder of a run')
    .option('--reference <arm>', 'the arm that differences are taken to')
    .option('--against <folder>', 'another run of the study, to compare this one with trial by trial')
    .action(reportOn);
}

/**
 * Writes summary.json and the reports of what is in a folder, and shows the table. A run ends with this as well, so that it reports what
 * `peft-bench report` will.
 * @throws DataError when there are no results.
 */
export async function reportOn(folder: string, { reference, against }: ReportOptions = {}): Promise<void> {
  const pooled = await existingResults(folder);
  const { results } = pooled;
  const other = against === undefined ? undefined : (await existingResults(against)).results;
  const summary = summarise(results, { reference: reference ?? (await referenceIn(folder)) ?? firstBudgeted(results) });
  const whole = {
    ...summary,
    notes: [...leftOutNotes(pooled), ...summary.notes],
    ...(against !== undefined && other && { against: compareRuns(results, other, against) }),
  };
  await writeReport(folder, results, whole);
  process.stderr.write(
    `\n${renderTable(whole, { columns: process.stderr.isTTY ? process.stderr.columns : 140 })}\n\nreport: ${folder}/report.html\n`,
  );
}

/** The results of a folder that can be pooled. @throws DataError when there are none. */
async function existingResults(folder: string): Promise<Poolable> {
  const results = await readResults(folder);
  if (results.length > 0) return ofNewestNumerics(results);
  throw new DataError(`${folder} holds no results; peft-bench run --out ${folder} makes them`, folder);
}

/** The arm that a comparison is to where neither the user nor a run says. */
function firstBudgeted(results: readonly TrialResult[]): string {
  return (results.find(({ budget }) => budget.requested !== null) ?? results[0])?.arm ?? '';
}
