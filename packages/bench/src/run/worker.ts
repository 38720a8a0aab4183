import { onWarning } from '@peftjs/core';
import { startEngine, type EnginePlan } from '../registry/executors.js';
import { prepareAsPlanned } from './as-planned.js';
import { endWithParent } from './end-with-parent.js';
import { trialPreparer, type PreparedTrial } from './prepare.js';
import { throttled, type TrialProgress } from './recorder.js';
import { failureOf, type TrialRequest, type WorkerReply, type WorkerRequest } from './runner.js';
import { performTrial } from './trial.js';

/* A worker process: handles its parent's requests one at a time, and ends with its parent. */

/** Milliseconds between progress reports: steps can be shorter than a terminal can show. */
const PROGRESS_MS = 50;

const prepare = trialPreparer();

process.on('message', (request: WorkerRequest) => void answer(request));
process.on('disconnect', () => process.exit());
endWithParent();
process.on('SIGINT', () => undefined); // Ctrl-C reaches the parent too, which decides what to do

onWarning((message) => {
  reply({ type: 'warning', message });
});

async function answer(request: WorkerRequest): Promise<void> {
  try {
    reply(await ('trial' in request ? done(request) : started(request.engine)));
  } catch (error) {
    reply({ type: 'failed', error: failureOf(error) });
  }
}

async function done(request: TrialRequest): Promise<WorkerReply> {
  const { trial, at } = request;
  const prepared = at ? await prepareAsPlanned(trial, at, prepare).catch(refusal) : await prepare(trial);
  return 'reason' in prepared ? prepared : trained(request, prepared);
}

function refusal(error: unknown): WorkerReply & { type: 'refused' } {
  return { type: 'refused', reason: failureOf(error).message };
}

async function trained(request: TrialRequest, prepared: PreparedTrial): Promise<WorkerReply> {
  const onProgress = throttled((progress: TrialProgress) => {
    reply({ type: 'progress', progress });
  }, PROGRESS_MS);
  return { type: 'done', result: await performTrial(request, prepared, onProgress) };
}

async function started(engine: EnginePlan): Promise<WorkerReply> {
  await startEngine(engine);
  return { type: 'started' };
}

function reply(message: WorkerReply): void {
  process.send?.(message);
}
