import type { Trial } from '../plan/trial.js';
import type { DoneTrial } from '../results/schema.js';
import type { TrialProgress } from '../trial/progress.js';
import type { WorkerFailure } from './messages.js';
import { askWorker, startWorker, type Worker } from './process.js';

/** What happens to the trials of a pool. */
interface PoolEvents {
  onStart(trial: Trial): void;
  onProgress(trial: Trial, progress: TrialProgress): void;
  onDone(trial: Trial, result: DoneTrial): Promise<void> | void;
  onFailed(trial: Trial, failure: WorkerFailure): Promise<void> | void;
}

export interface PoolOptions extends PoolEvents {
  /** Number of processes. */
  readonly workers: number;
  /** Ends the processes; trials under way are lost. */
  readonly signal: AbortSignal;
}

/** Runs trials in worker processes, in order, each on the next one that is free. */
export async function runPool(trials: readonly Trial[], options: PoolOptions): Promise<void> {
  const waiting = [...trials];
  const count = Math.min(options.workers, waiting.length);
  await Promise.all(Array.from({ length: count }, () => runWorker(waiting, options)));
}

/** One place of the pool: a process that is replaced when it dies. */
async function runWorker(waiting: Trial[], options: PoolOptions): Promise<void> {
  let worker: Worker | undefined;
  const stop = (): void => void worker?.process.kill('SIGKILL');
  options.signal.addEventListener('abort', stop);
  try {
    for (let trial = waiting.shift(); trial && !options.signal.aborted; trial = waiting.shift()) {
      worker = worker?.process.connected ? worker : startWorker();
      options.onStart(trial);
      await runOn(worker, trial, options);
    }
  } finally {
    options.signal.removeEventListener('abort', stop);
    if (worker?.process.connected) worker.process.disconnect();
  }
}

/** Runs a trial in a process, and tells how it ended. */
async function runOn(worker: Worker, trial: Trial, { signal, ...events }: PoolOptions): Promise<void> {
  const outcome = await askWorker(worker, { trial }, (progress) => {
    events.onProgress(trial, progress);
  });
  if (signal.aborted) return;
  if (outcome.type === 'done') await events.onDone(trial, outcome.result);
  else if (outcome.type === 'failed') await events.onFailed(trial, outcome.error);
}
