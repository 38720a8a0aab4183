import { onWarning } from '@peftjs/core';
import { startEngine, type EnginePlan } from '../registry/executors.js';
import type { Trial } from '../study/trials.js';
import { plannedPreparer } from './as-planned.js';
import { checkEngine, gpuBackends, timeEngine } from './check-engine.js';
import { endWithParent } from './end-with-parent.js';
import { measureTask } from './measure-steps.js';
import { trialPreparer, type PreparedTrial } from './prepare.js';
import { throttled, type TrialProgress } from './recorder.js';
import { failureOf, type EngineQuestion, type TrialRequest, type WorkerReply, type WorkerRequest } from './runner.js';
import { performTrial } from './trial.js';

/* A worker process: handles its parent's requests one at a time, and ends with its parent. */

/** Milliseconds between progress reports: steps can be shorter than a terminal can show. */
const PROGRESS_MS = 50;

const prepare = trialPreparer();
const preparePlanned = plannedPreparer(trialPreparer);

process.on('message', (request: WorkerRequest) => void answer(request));
process.on('disconnect', () => process.exit());
endWithParent();
process.on('SIGINT', () => undefined); // Ctrl-C reaches the parent too, which decides what to do

onWarning((message) => {
  reply({ type: 'warning', message });
});

async function answer(request: WorkerRequest): Promise<void> {
  try {
    reply(await outcomeOf(request));
  } catch (error) {
    reply({ type: 'failed', error: failureOf(error) });
  }
}

function outcomeOf(request: WorkerRequest): Promise<WorkerReply> {
  if ('trial' in request) return done(request);
  if ('prepare' in request) return prepared(request.prepare);
  if ('measure' in request) return measured(request.measure);
  return 'engine' in request ? started(request.engine) : answered(request);
}

async function done(request: TrialRequest): Promise<WorkerReply> {
  const { trial, at } = request;
  const prepared = at ? await preparePlanned(trial, at).catch(refusal) : await prepare(trial);
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

async function prepared(trial: Trial): Promise<WorkerReply> {
  await prepare(trial);
  return { type: 'prepared' };
}

async function measured(trial: Trial): Promise<WorkerReply> {
  return { type: 'measured', measured: await measureTask(trial, await prepare(trial)) };
}

async function started(engine: EnginePlan): Promise<WorkerReply> {
  await startEngine(engine);
  return { type: 'started' };
}

async function answered(request: EngineQuestion): Promise<WorkerReply> {
  switch (request.question) {
    case 'list':
      return { type: 'listed', backends: await gpuBackends() };
    case 'check':
      return { type: 'checked', check: await checkEngine(request.plan, request.method) };
    case 'time':
      return { type: 'timed', time: await timeEngine(request.plan, request.size) };
  }
}

function reply(message: WorkerReply): void {
  process.send?.(message);
}
