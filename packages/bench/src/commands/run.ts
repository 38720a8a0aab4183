import { mkdir, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import { CheckpointError, diskStorage } from '@peftjs/core';
import { runStage } from '../stages/run-stage.js';
import { localRunner } from '../workers/pool.js';
import { planRun } from './plan-run.js';
import { firstBudgeted, writeReports } from './report.js';
import { count, defaultWorkers, studyFromFlags, withStudyFlags, type StudyFlags } from './study-flags.js';

interface RunFlags extends StudyFlags {
  readonly seeds?: number;
  readonly workers?: number;
  readonly out: string;
  readonly json?: boolean;
}

/** `peft-bench run`: every trial of a study, then its report. */
export function addRunCommand(program: Command): void {
  withStudyFlags(program.command('run').description('compare methods at equal parameter budgets'))
    .option('--seeds <n>', 'number of seeds: 1, 2, .. n', count)
    .option('--workers <n>', 'trials at a time, one process each: one for each core, or one for a device', count)
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
  const { engine, tasks, trials } = await planRun(composed);
  await claimFolder(out);
  const runner = localRunner(flags.workers ?? defaultWorkers(engine));
  const onResult = (result: object): void => void process.stdout.write(`${JSON.stringify(result)}\n`);
  try {
    const results = await runStage(out, trials, { runner, tasks, signal, ...(flags.json ? { onResult } : {}) });
    if (signal.aborted) return interrupted(out, results.length, trials.length);
    await writeReports(out, composed.study.reference ?? firstBudgeted(results), results);
    return results.every(({ status }) => status === 'done') ? 0 : 1;
  } finally {
    await runner.close();
  }
}

function interrupted(out: string, ended: number, all: number): number {
  process.stderr.write(
    `peft-bench: stopped; ${ended} of ${all} trials are in ${out}. The same command goes on from there\n`,
  );
  return 130;
}

/** Hands on Ctrl-C, and the same by `kill`, as a signal. */
async function untilSignal<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const onSignal = (): void => {
    stop.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await work(stop.signal);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

/** Makes sure that results can be written, before anything is computed. @throws CheckpointError when not. */
async function claimFolder(folder: string): Promise<void> {
  const probe = `${folder}/results/.writable`;
  try {
    await mkdir(`${folder}/results`, { recursive: true });
    await diskStorage().write(probe, new Uint8Array());
    await rm(probe);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CheckpointError(`--out ${folder} cannot be written: ${reason}`, folder, cause);
  }
}
