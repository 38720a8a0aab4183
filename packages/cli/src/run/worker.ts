import { onWarning } from '@peftjs/core';
import { startEngine } from '../registry/executors.js';
import { plannedPreparer } from './as-planned.js';
import { checkEngine, gpuBackends, timeEngine } from './check-engine.js';
import { measureTask } from './measure.js';
import { endWithParent } from './processes.js';
import { trialPreparer } from './prepare.js';
import { throttled, type TrialProgress } from './recorder.js';
import { failureOf, type Question, type Questions, type TrialRequest, type WorkerReply } from './runner.js';
import { performTrial } from './trial.js';

/* A worker process: handles its parent's requests one at a time, and ends with its parent. */

/** Milliseconds between progress reports: steps can be shorter than a terminal can show. */
const PROGRESS_MS = 50;

const prepare = trialPreparer();
const preparePlanned = plannedPreparer(trialPreparer);

process.on('message', (request: TrialRequest | Question) => void handle(request));
process.on('disconnect', () => process.exit());
endWithParent();
process.on('SIGINT', () => undefined); // Ctrl-C reaches the parent too, which decides what to do

onWarning((message) => {
  reply({ type: 'warning', message });
});

/** How each question is answered. */
const answers: { readonly [Q in keyof Questions]: (about: Questions[Q]['about']) => Promise<Questions[Q]['answer']> } =
  {
    start: (engine) => startEngine(engine).then(() => null),
    prepare: (trial) => prepare(trial).then(() => null),
    measure: async (trial) => measureTask(trial, await prepare(trial)),
    list: gpuBackends,
    check: checkEngine,
    time: timeEngine,
  };

async function handle(request: TrialRequest | Question): Promise<void> {
  try {
    reply('trial' in request ? await done(request) : { type: 'answer', answer: await answerTo(request) });
  } catch (error) {
    reply({ type: 'failed', error: failureOf(error) });
  }
}

function answerTo<Q extends keyof Questions>({ question, about }: Question<Q>): Promise<Questions[Q]['answer']> {
  return answers[question](about);
}

async function done(request: TrialRequest): Promise<WorkerReply> {
  const { trial, at } = request;
  const prepared = at ? await preparePlanned(trial, at).catch(refusal) : await prepare(trial);
  if ('reason' in prepared) return prepared;
  const onProgress = throttled((progress: TrialProgress) => {
    reply({ type: 'progress', progress });
  }, PROGRESS_MS);
  return { type: 'done', result: await performTrial(request, prepared, onProgress) };
}

function refusal(error: unknown): WorkerReply & { type: 'refused' } {
  return { type: 'refused', reason: failureOf(error).message };
}

function reply(message: WorkerReply): void {
  process.send?.(message);
}
