import type { Trial } from '../plan/trial.js';
import { askWorker, startWorker, type Worker } from './process.js';
import type { TrialEvents, TrialRunner } from './runner.js';

/** The trials of a run, the next one first, and what happens to them. */
interface Queue {
  readonly waiting: Trial[];
  readonly events: TrialEvents;
  /** Ends the processes; trials under way are lost. */
  readonly signal: AbortSignal;
}

/** Runs trials in processes of this machine, in order, each on the next one that is free; `workers` is their number. */
export function localRunner(workers: number): TrialRunner {
  return {
    async run(trials, events, signal) {
      const queue = { waiting: [...trials], events, signal };
      const count = Math.min(workers, trials.length);
      await Promise.all(Array.from({ length: count }, () => runWorker(queue)));
    },
    close: () => Promise.resolve(), // processes end with the trials
  };
}

/** One place of the pool: a process that is replaced when it dies. */
async function runWorker(queue: Queue): Promise<void> {
  const { waiting, events, signal } = queue;
  let worker: Worker | undefined;
  const stop = (): void => void worker?.process.kill('SIGKILL');
  signal.addEventListener('abort', stop);
  try {
    for (let trial = waiting.shift(); trial && !signal.aborted; trial = waiting.shift()) {
      worker = worker?.process.connected ? worker : startWorker();
      events.onStart(trial);
      await runOn(worker, trial, queue);
    }
  } finally {
    signal.removeEventListener('abort', stop);
    if (worker?.process.connected) worker.process.disconnect();
  }
}

/** Runs a trial in a process, and tells how it ended. */
async function runOn(worker: Worker, trial: Trial, { signal, events }: Queue): Promise<void> {
  const outcome = await askWorker(worker, { trial }, (progress) => {
    events.onProgress(trial, progress);
  });
  if (signal.aborted) return;
  if (outcome.type === 'done') await events.onDone(trial, outcome.result);
  else if (outcome.type === 'failed') await events.onFailed(trial, outcome.error);
}
