import { trialPreparer } from '../trial/prepare.js';
import type { TrialProgress } from '../trial/progress.js';
import { runTrial } from '../trial/run-trial.js';
import { failureOf, type WorkerReply, type WorkerRequest } from './messages.js';

/* A worker process: runs the trials that its parent sends, one at a time, and ends with it. */

const prepare = trialPreparer();

process.on('message', ({ trial }: WorkerRequest) => void work(trial));
process.on('disconnect', () => process.exit());
process.on('SIGINT', () => undefined); // a terminal's Ctrl-C reaches the parent too, which decides

async function work(trial: WorkerRequest['trial']): Promise<void> {
  try {
    const onProgress = throttled((progress: TrialProgress) => {
      reply({ type: 'progress', progress });
    });
    const { result } = await runTrial(trial, await prepare(trial), { onProgress });
    reply({ type: 'done', result });
  } catch (error) {
    reply({ type: 'failed', error: failureOf(error) });
  }
}

/** At most one call in 50 ms: a step can be shorter than what a terminal shows. */
function throttled<T>(call: (value: T) => void): (value: T) => void {
  let last = -Infinity;
  return (value) => {
    const now = performance.now();
    if (now - last < 50) return;
    last = now;
    call(value);
  };
}

function reply(message: WorkerReply): void {
  process.send?.(message);
}
