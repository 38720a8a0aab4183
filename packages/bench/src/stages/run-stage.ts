import { DataError, NUMERICS } from '@peftjs/core';
import type { Trial } from '../plan/trial.js';
import { openProgress, type Progress } from '../progress/open.js';
import type { LoadedTask } from '../registry/tasks.js';
import { printable } from '../report/text.js';
import { MAX_MESSAGE, type DoneTrial, type TrialResult } from '../results/schema.js';
import { datedAfter } from '../results/dates.js';
import { removeCheckpoint } from '../results/folder.js';
import { numericsOf } from '../results/numerics.js';
import { readResults, writeResult } from '../results/store.js';
import { describeCircumstances } from '../trial/circumstances.js';
import { showWarningsBy } from '../warnings.js';
import { failureOf, type WorkerFailure } from '../workers/messages.js';
import type { TrialEvents, TrialRunner } from '../workers/runner.js';

/** What the stages of a run share. */
export interface RunContext {
  /** The folder of the run; the checkpoints of every stage are in it. */
  readonly out: string;
  readonly runner: TrialRunner;
  readonly tasks: ReadonlyMap<string, LoadedTask>;
  /** Ends the run; trials under way are lost. */
  readonly signal: AbortSignal;
  /** Called with every trial that ends, once its file is written. */
  readonly onResult?: (result: TrialResult) => void;
}

/**
 * Runs the trials that have no finished result in `folder` yet, and writes one file for each that ends.
 * @returns the results that there are now, in the order of the trials.
 */
export async function runStage(
  folder: string,
  trials: readonly Trial[],
  { out, runner, tasks, signal, onResult }: RunContext,
): Promise<TrialResult[]> {
  const results = new Map((await readResults(folder)).map((result) => [result.id, result] as const));
  const isDone = ({ id }: Trial): boolean => {
    const known = results.get(id);
    return known?.status === 'done' && numericsOf(known) === NUMERICS;
  };
  const keep = async (ended: TrialResult): Promise<void> => {
    const result = await writeResult(folder, datedAfter(results.values(), ended));
    results.set(result.id, result);
    if (result.status === 'done') await removeCheckpoint(out, result.id);
    onResult?.(result);
  };
  const progress = openProgress(trials.length);
  const asBefore = showWarningsBy((line) => {
    progress.emit({ type: 'note', line });
  });
  for (const { id } of trials.filter(isDone)) progress.emit({ type: 'trial-skipped', id });
  try {
    const waiting = trials.filter((trial) => !isDone(trial));
    await runner.run(waiting, recording(keep, tasks, progress), signal);
  } finally {
    asBefore();
    progress.close();
  }
  return trials.flatMap(({ id }) => results.get(id) ?? []);
}

/** Shows what happens to trials, and keeps how they end. */
function recording(
  keep: (result: TrialResult) => Promise<void>,
  tasks: ReadonlyMap<string, LoadedTask>,
  progress: Progress,
): TrialEvents {
  const started = new Map<string, Date>();
  const keepFailure = async (trial: Trial, failure: WorkerFailure): Promise<void> => {
    const task = tasks.get(trial.task);
    if (task) await keep(failedResult(trial, failure, task, started.get(trial.id) ?? new Date()));
    progress.emit({ type: 'trial-failed', id: trial.id, message: failure.message });
  };
  return {
    onStart({ id, arm, task, seed, budget }) {
      started.set(id, new Date());
      progress.emit({ type: 'trial-start', id, label: { arm, task, seed, budget }, totalSteps: 0 });
    },
    onProgress({ id }, step) {
      progress.emit({ type: 'step', id, ...step });
    },
    async onDone(trial, result) {
      const unwritable = await unlessWritten(keep, result);
      if (unwritable) return keepFailure(trial, writable(unwritable));
      progress.emit({ type: 'trial-done', id: trial.id, metrics: result.metrics, seconds: result.time.totalSeconds });
    },
    onFailed: (trial, failure) => keepFailure(trial, writable(failure)),
    onRetry({ id }, { message }) {
      progress.emit({ type: 'trial-again', id, message });
    },
    onNote(line) {
      progress.emit({ type: 'note', line });
    },
  };
}

/** Keeps a result. @returns why it cannot be written, where it breaks its contract; another try would end alike. */
async function unlessWritten(
  keep: (result: TrialResult) => Promise<void>,
  result: DoneTrial,
): Promise<WorkerFailure | undefined> {
  try {
    await keep(result);
    return undefined;
  } catch (error) {
    if (error instanceof DataError) return failureOf(error);
    throw error;
  }
}

/** A failure as a result file can hold it, whoever speaks of it: on one line, and not without end. */
function writable({ code, message }: WorkerFailure): WorkerFailure {
  const line = printable(message).trim();
  return {
    code: printable(code).slice(0, MAX_CODE) || 'PEFT_UNEXPECTED',
    message: line.length <= MAX_MESSAGE ? line : `${line.slice(0, MAX_MESSAGE - 1)}…`,
  };
}

const MAX_CODE = 100;

function failedResult(trial: Trial, error: WorkerFailure, task: LoadedTask, startedAt: Date): TrialResult {
  const rows = { train: 0, selection: 0, dev: 0 };
  const { budget, settings, protocol } = trial;
  return {
    ...describeCircumstances(
      trial,
      { task, rows },
      { startedAt, finishedAt: new Date(Math.max(Date.now(), startedAt.getTime())) },
    ),
    id: trial.id,
    methodConfig: {},
    budget: {
      requested: null,
      spec: budget ?? 'none',
      matchedOn: protocol.matchOn,
      tolerance: settings.tolerance,
      met: false,
    },
    status: 'failed',
    error,
  };
}
