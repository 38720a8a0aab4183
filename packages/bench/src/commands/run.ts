import { mkdir, rm } from 'node:fs/promises';
import type { Command } from 'commander';
import { CheckpointError, diskStorage } from '@peftjs/core';
import type { Trial } from '../plan/trial.js';
import { openProgress, type Progress } from '../progress/open.js';
import type { TrialResult } from '../results/schema.js';
import { readResults, writeResult } from '../results/store.js';
import { describeCircumstances } from '../trial/circumstances.js';
import type { WorkerFailure } from '../workers/messages.js';
import { runPool } from '../workers/pool.js';
import { planRun, type PlannedRun } from './plan-run.js';
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
      process.exitCode = await run(flags);
    });
}

/** The exit code of a run: 0 all done, 1 some failed, 130 interrupted. */
async function run(flags: RunFlags): Promise<number> {
  const composed = await studyFromFlags(flags, flags.seeds === undefined ? {} : { seeds: flags.seeds });
  process.stderr.write(`peft-bench: loading ${composed.study.model}\n`);
  const planned = await planRun(composed);
  await claimFolder(flags.out);
  const finished = new Map((await readResults(flags.out)).map((result) => [result.id, result] as const));
  const interrupted = await runTrials(planned, finished, flags);
  const ours = planned.trials.flatMap(({ id }) => finished.get(id) ?? []);
  if (interrupted) {
    process.stderr.write(
      `peft-bench: stopped; ${ours.length} of ${planned.trials.length} trials are in ${flags.out}. The same command goes on from there\n`,
    );
    return 130;
  }
  await writeReports(flags.out, composed.study.reference ?? firstBudgeted(ours), ours);
  return ours.every(({ status }) => status === 'done') ? 0 : 1;
}

/** Runs what is not done yet; `finished` fills up. Returns whether the user stopped it. */
async function runTrials(planned: PlannedRun, finished: Map<string, TrialResult>, flags: RunFlags): Promise<boolean> {
  const isDone = ({ id }: Trial): boolean => finished.get(id)?.status === 'done';
  const stop = new AbortController();
  const onSignal = (): void => {
    stop.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const progress = openProgress(planned.trials.length);
  for (const trial of planned.trials.filter(isDone)) progress.emit({ type: 'trial-skipped', id: trial.id });
  try {
    await runPool(
      planned.trials.filter((trial) => !isDone(trial)),
      poolOptions(planned, finished, progress, flags, stop.signal),
    );
  } finally {
    progress.close();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
  return stop.signal.aborted;
}

function poolOptions(
  { engine, tasks }: PlannedRun,
  finished: Map<string, TrialResult>,
  progress: Progress,
  { out, workers = defaultWorkers(engine), json }: RunFlags,
  signal: AbortSignal,
): Parameters<typeof runPool>[1] {
  const started = new Map<string, Date>();
  const keep = async (result: TrialResult): Promise<void> => {
    await writeResult(out, result);
    finished.set(result.id, result);
    if (json) process.stdout.write(`${JSON.stringify(result)}\n`);
  };
  return {
    workers,
    signal,
    onStart(trial) {
      started.set(trial.id, new Date());
      const { id, method, task, seed, budget } = trial;
      progress.emit({ type: 'trial-start', id, label: { method, task, seed, budget }, totalSteps: 0 });
    },
    onProgress({ id }, step) {
      progress.emit({ type: 'step', id, ...step });
    },
    async onDone({ id }, result) {
      await keep(result);
      progress.emit({ type: 'trial-done', id, metrics: result.metrics, seconds: result.time.totalSeconds });
    },
    async onFailed(trial, failure) {
      const task = tasks.get(trial.task);
      if (task) await keep(failedResult(trial, failure, task, started.get(trial.id) ?? new Date()));
      progress.emit({ type: 'trial-failed', id: trial.id, message: failure.message });
    },
  };
}

function failedResult(
  trial: Trial,
  error: WorkerFailure,
  task: Parameters<typeof describeCircumstances>[1]['task'],
  startedAt: Date,
): TrialResult {
  const rows = { train: 0, selection: 0, dev: 0 };
  return {
    ...describeCircumstances(trial, { task, rows }, { startedAt, finishedAt: new Date() }),
    id: trial.id,
    methodConfig: {},
    budget: { requested: null, spec: trial.budget ?? 'none', tolerance: trial.settings.tolerance, met: false },
    status: 'failed',
    error,
  };
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
