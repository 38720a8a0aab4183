import type { Trial } from '../plan/trial.js';
import { startEngine, type EnginePlan } from '../registry/executors.js';
import { trialPreparer } from '../trial/prepare.js';
import type { TrialProgress } from '../trial/progress.js';
import { runTrial } from '../trial/run-trial.js';
import { failureOf, type WorkerReply, type WorkerRequest } from './messages.js';

/* A worker process: does what its parent asks, one thing at a time, and ends with it. */

const prepare = trialPreparer();

process.on('message', (request: WorkerRequest) => void answer(request));
process.on('disconnect', () => process.exit());
process.on('SIGINT', () => undefined); // a terminal's Ctrl-C reaches the parent too, which decides

async function answer(request: WorkerRequest): Promise<void> {
  try {
    reply(await ('trial' in request ? done(request.trial) : started(request.engine)));
  } catch (error) {
    reply({ type: 'failed', error: failureOf(error) });
  }
}

async function done(trial: Trial): Promise<WorkerReply> {
  const onProgress = throttled((progress: TrialProgress) => {
    reply({ type: 'progress', progress });
  });
  const { result } = await runTrial(trial, await prepare(trial), { onProgress });
  return { type: 'done', result };
}

async function started(engine: EnginePlan): Promise<WorkerReply> {
  await startEngine(engine);
  return { type: 'started' };
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
