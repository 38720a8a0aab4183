import { PeftError } from '@peftjs/core';
import {
  measureTask,
  trialPreparer,
  askWorker,
  endWorker,
  startWorker,
  type Trial,
  type Worker,
  type MeasuredTask,
  type WorkerOutcome,
  type WorkerRequest,
} from '@peftjs/cli/trials';

/**
 * Trains each trial for a few steps on its batch of median length, in as many processes at a time as the study will
 * use, since they share the processor's cores, caches and memory; without workers, in this process.
 * @throws PeftError with the code and message of a process that fails.
 */
export async function measureTasks(
  trials: readonly Trial[],
  workers: number,
  signal: AbortSignal,
): Promise<MeasuredTask[]> {
  if (workers === 0) return measureHere(trials);
  const pool = Array.from({ length: workers }, () => startWorker());
  const stop = (): void => pool.forEach(({ process: child }) => child.kill('SIGKILL'));
  signal.addEventListener('abort', stop);
  try {
    const measured: MeasuredTask[] = [];
    for (const trial of trials) measured.push(await measureIn(pool, trial));
    return measured;
  } finally {
    signal.removeEventListener('abort', stop);
    pool.forEach(endWorker);
  }
}

async function measureHere(trials: readonly Trial[]): Promise<MeasuredTask[]> {
  const prepare = trialPreparer();
  const measured: MeasuredTask[] = [];
  for (const trial of trials) measured.push(await measureTask(trial, await prepare(trial)));
  return measured;
}

/** Measures the same trial in all processes at the same time. @returns the measurement with the median step. */
async function measureIn(pool: readonly Worker[], trial: Trial): Promise<MeasuredTask> {
  await askAll(pool, { prepare: trial });
  const outcomes = await askAll(pool, { measure: trial });
  const measured = outcomes.flatMap((outcome) => (outcome.type === 'measured' ? [outcome.measured] : []));
  measured.sort((a, b) => a.stepMedianMs - b.stepMedianMs);
  return measured[measured.length >> 1] as MeasuredTask;
}

async function askAll(pool: readonly Worker[], request: WorkerRequest): Promise<WorkerOutcome[]> {
  const outcomes = await Promise.all(pool.map((worker) => askWorker(worker, request)));
  for (const outcome of outcomes) {
    if (outcome.type === 'failed') throw new PeftError(outcome.error.code, outcome.error.message);
  }
  return outcomes;
}
