import type { Trial } from '../plan/trial.js';
import { WORKER_DIED, type TrialRequest } from './messages.js';
import { askWorker, livingWorker, type Worker } from './process.js';
import type { TrialEvents, TrialRunner } from './runner.js';

export interface LocalOptions extends Omit<TrialRequest, 'trial'> {
  /** Number of processes. */
  readonly workers: number;
}

/**
 * How often a trial is started whose process dies. All but the first time it runs alone, after the others: it may have lacked the
 * memory that they took.
 */
const ATTEMPTS = 2;

/** Runs trials in processes of this machine, in order, each on the next one that is free. */
export function localRunner({ workers, ...keeping }: LocalOptions): TrialRunner {
  return {
    async run(trials, events, signal) {
      let waiting = [...trials];
      for (let attempt = 1; waiting.length > 0 && !signal.aborted; attempt++) {
        const queue = { waiting, events, keeping, again: [], isLastAttempt: attempt === ATTEMPTS };
        await runQueue(queue, attempt === 1 ? workers : 1, signal);
        waiting = queue.again;
      }
    },
    close: () => Promise.resolve(), // processes end with the trials
  };
}

/** Trials, the next one first, and what happens to them. */
interface Queue {
  readonly waiting: Trial[];
  readonly events: TrialEvents;
  readonly keeping: Omit<TrialRequest, 'trial'>;
  /** Those whose process died, unless this is the last attempt. */
  readonly again: Trial[];
  readonly isLastAttempt: boolean;
}

/** Runs all trials; where one end cannot be recorded, none goes on. */
async function runQueue(queue: Queue, workers: number, signal: AbortSignal): Promise<void> {
  const failure = new AbortController();
  const ends = AbortSignal.any([signal, failure.signal]);
  const places = Array.from({ length: Math.min(workers, queue.waiting.length) }, () => runWorker(queue, ends));
  try {
    await Promise.all(places);
  } finally {
    failure.abort();
    await Promise.allSettled(places);
  }
}

/** One place of the pool: a process that is replaced when it dies. The signal ends it; its trial is lost. */
async function runWorker(queue: Queue, signal: AbortSignal): Promise<void> {
  const { waiting, events } = queue;
  let worker: Worker | undefined;
  const stop = (): void => void worker?.process.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  try {
    for (let trial = waiting.shift(); trial && !signal.aborted; trial = waiting.shift()) {
      worker = livingWorker(worker);
      events.onStart(trial);
      await runOn(worker, trial, queue, signal);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    if (worker?.process.connected) worker.process.disconnect();
  }
}

/** Runs a trial in a process, and tells how it ended. */
async function runOn(worker: Worker, trial: Trial, queue: Queue, signal: AbortSignal): Promise<void> {
  const { events, keeping, again, isLastAttempt } = queue;
  const outcome = await askWorker(worker, { trial, ...keeping }, (progress) => {
    events.onProgress(trial, progress);
  });
  if (signal.aborted) return;
  if (outcome.type === 'done') await events.onDone(trial, outcome.result);
  if (outcome.type !== 'failed') return;
  const { error } = outcome;
  if (error.code !== WORKER_DIED) await events.onFailed(trial, error);
  else if (isLastAttempt) await events.onFailed(trial, { ...error, message: `${error.message}, ${HOPELESS}` });
  else {
    again.push(trial);
    events.onRetry(trial, { ...error, message: `${error.message}; it is started again, alone, after the others` });
  }
}

const HOPELESS = `${ATTEMPTS} times, the last time with no other trial beside it; smaller batches or shorter rows take less memory`;
