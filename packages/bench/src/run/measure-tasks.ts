import {
  ask,
  endWorker,
  measureTask,
  startWorker,
  trialPreparer,
  type MeasuredTask,
  type Trial,
  type Worker,
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
  const prepare = trialPreparer();
  const pool = Array.from({ length: workers }, () => startWorker());
  const stop = (): void => pool.forEach(({ process: child }) => child.kill('SIGKILL'));
  signal.addEventListener('abort', stop);
  try {
    const measured: MeasuredTask[] = [];
    for (const trial of trials) {
      measured.push(workers === 0 ? await measureTask(trial, await prepare(trial)) : await measureIn(pool, trial));
    }
    return measured;
  } finally {
    signal.removeEventListener('abort', stop);
    pool.forEach(endWorker);
  }
}

/** Measures the same trial in all processes at the same time. @returns the measurement with the median step. */
async function measureIn(pool: readonly Worker[], trial: Trial): Promise<MeasuredTask> {
  await Promise.all(pool.map((worker) => ask(worker, 'prepare', trial)));
  const measured = await Promise.all(pool.map((worker) => ask(worker, 'measure', trial)));
  measured.sort((a, b) => a.stepMedianMs - b.stepMedianMs);
  return measured[measured.length >> 1] as MeasuredTask;
}
