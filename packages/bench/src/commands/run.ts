import type { Command } from 'commander';
import { CheckpointError } from '@peftjs/core';
import { checkpointFolder, claimFolder, remedyOf, removeFinishedCheckpoints } from '../results/folder.js';
import { readResults } from '../results/store.js';
import { runStage } from '../stages/run-stage.js';
import { localRunner } from '../workers/pool.js';
import { planRun, type PlannedRun } from './plan-run.js';
import { firstBudgeted, writeReports } from './report.js';
import {
  count,
  defaultWorkers,
  studyFromFlags,
  withStudyFlags,
  type ComposedStudy,
  type StudyFlags,
} from './study-flags.js';
import { INTERRUPTED, untilSignal } from './until-signal.js';

interface RunFlags extends StudyFlags {
  readonly seeds?: number;
  readonly workers?: number;
  readonly checkpointEvery?: number;
  readonly out: string;
  readonly json?: boolean;
}

/** `peft-bench run`: every trial of a study, then its report. */
export function addRunCommand(program: Command): void {
  withStudyFlags(program.command('run').description('compare methods at equal parameter budgets'))
    .option('--seeds <n>', 'number of seeds: 1, 2, .. n', count)
    .option('--workers <n>', 'trials at a time, one process each: one for each core, or one for a device', count)
    .option('--checkpoint-every <steps>', 'steps between two checkpoints of a trial: 50', count)
    .option('--json', 'one JSON line on stdout for each finished trial')
    .requiredOption('--out <folder>', 'where results and the report go')
    .action(async (flags: RunFlags) => {
      process.exitCode = await untilSignal((signal) => run(flags, signal));
    });
}

/** The exit code of a run: 0 all done, 1 some failed, 130 interrupted. */
async function run(flags: RunFlags, signal: AbortSignal): Promise<number> {
  const { out } = flags;
  const composed = await studyFromFlags(flags, flags.seeds === undefined ? {} : { seeds: flags.seeds });
  process.stderr.write(`peft-bench: loading ${composed.study.model}\n`);
  const planned = await planRun(composed);
  const lock = await claimFolder(out);
  try {
    return await runPlanned(flags, composed, planned, signal);
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    process.stderr.write(
      `peft-bench: ${error.message}. ${remedyOf(error)}; the same command then goes on from there\n`,
    );
    return 1;
  } finally {
    lock.release();
  }
}

async function runPlanned(
  { out, workers, checkpointEvery, json }: RunFlags,
  { study }: ComposedStudy,
  { engine, tasks, trials }: PlannedRun,
  signal: AbortSignal,
): Promise<number> {
  const runner = localRunner({
    workers: workers ?? defaultWorkers(engine),
    checkpoints: checkpointFolder(out),
    ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
  });
  const onResult = (result: object): void => void process.stdout.write(`${JSON.stringify(result)}\n`);
  try {
    const results = await runStage(out, trials, { runner, tasks, signal, ...(json ? { onResult } : {}) });
    await removeCheckpointsOfDone(out);
    if (signal.aborted) return interrupted(out, results.length, trials.length);
    await writeReports(out, study.reference ?? firstBudgeted(results), results);
    return results.every(({ status }) => status === 'done') ? 0 : 1;
  } finally {
    await runner.close();
  }
}

async function removeCheckpointsOfDone(out: string): Promise<void> {
  const done = (await readResults(out)).filter(({ status }) => status === 'done');
  await removeFinishedCheckpoints(out, new Set(done.map(({ id }) => id)));
}

function interrupted(out: string, ended: number, all: number): number {
  process.stderr.write(
    `peft-bench: stopped; ${ended} of ${all} trials are in ${out}. The same command goes on from there\n`,
  );
  return INTERRUPTED;
}
