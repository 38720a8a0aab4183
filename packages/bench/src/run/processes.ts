import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { EngineError, warnOnce } from '@peftjs/core/method';
import type { EnginePlan } from '../registry/executors.js';
import type { Trial } from '../study/trials.js';
import { trialPreparer } from './prepare.js';
import type { TrialProgress } from './recorder.js';
import {
  failureOf,
  WORKER_DIED,
  type TrialEvents,
  type TrialRequest,
  type TrialRunner,
  type WorkerFailure,
  type WorkerOutcome,
  type WorkerReply,
  type WorkerRequest,
} from './runner.js';
import { performTrial } from './trial.js';

/** A process that does one thing at a time. */
export interface Worker {
  readonly process: ChildProcess;
  /** What it wrote to stderr last. */
  lastLine(): string;
}

/** Starts a worker process; it ends when it is disconnected, or with its parent. */
function startWorker(): Worker {
  // Sources run as they are; the build puts the worker beside the chunk that this code lands in.
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './run/worker.js';
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
  return { process: child, lastLine: lastOutput(child) };
}

/** The same worker where it can be asked for something, otherwise a new one. */
export function livingWorker(worker: Worker | undefined): Worker {
  return worker && isAlive(worker) ? worker : startWorker();
}

function isAlive({ process: { connected, exitCode, signalCode } }: Worker): boolean {
  return connected && exitCode === null && signalCode === null;
}

/** Sends a request to a process and waits for its answer, or for the process's end. */
export function askWorker(
  { process: child, lastLine }: Worker,
  request: WorkerRequest,
  onProgress: (progress: TrialProgress) => void = () => undefined,
): Promise<WorkerOutcome> {
  return new Promise((resolve) => {
    const onMessage = (reply: WorkerReply): void => {
      if (reply.type === 'progress') onProgress(reply.progress);
      else if (reply.type === 'warning') warnOnce(reply.message);
      else settle(reply);
    };
    const onExit = (code: number | null, killedBy: string | null): void => {
      settle({ type: 'failed', error: deathOf(code, killedBy, lastLine()) });
    };
    const settle = (outcome: WorkerOutcome): void => {
      child.off('message', onMessage).off('exit', onExit);
      resolve(outcome);
    };
    child.on('message', onMessage).on('exit', onExit);
    child.send(request, () => undefined); // of a process that cannot be reached 'exit' tells
  });
}

/** Collects what a process says on stderr; gives its last line, or that by which Node says why it gives up. */
function lastOutput(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-20_000);
  });
  return () => /^FATAL ERROR: .*/m.exec(text)?.[0] ?? text.trim().split('\n').at(-1) ?? '';
}

/** How the kernel ends a process that takes too much memory, and how Node and the native libraries end themselves. */
const OUT_OF_MEMORY = ['SIGKILL', 'SIGABRT', 134];

function deathOf(code: number | null, killedBy: string | null, lastLine: string): WorkerFailure {
  const how = killedBy === null ? `ended with exit code ${String(code)}` : `was killed by ${killedBy}`;
  const hint = OUT_OF_MEMORY.includes(killedBy ?? code ?? 0) ? ', most likely for lack of memory' : '';
  return { code: WORKER_DIED, message: `the worker process ${how}${hint}${lastLine === '' ? '' : ` (${lastLine})`}` };
}

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

/**
 * Starts an engine in a process of its own, where its drivers may write what they like, and crash.
 *
 * @throws EngineError with the reason when it does not start here.
 */
export async function assertStarts(engine: EnginePlan): Promise<void> {
  const worker = startWorker();
  const outcome = await askWorker(worker, { engine });
  if (worker.process.connected) worker.process.disconnect();
  if (outcome.type === 'failed') throw new EngineError(outcome.error.message, engine.backend);
}

/** Runs trials one after the other in this process, for a debugger and for tests. A crash ends the run with them. */
export function inProcessRunner(keeping: Omit<TrialRequest, 'trial'>): TrialRunner {
  const prepare = trialPreparer();
  const runOne = async (trial: Trial, events: TrialEvents, signal: AbortSignal): Promise<void> => {
    events.onStart(trial);
    const onProgress = events.onProgress.bind(events, trial);
    const outcome = await prepare(trial)
      .then((prepared) => performTrial({ trial, ...keeping }, prepared, onProgress, signal))
      .catch(failureOf);
    if (signal.aborted) return;
    if ('status' in outcome) await events.onDone(trial, outcome);
    else await events.onFailed(trial, outcome);
  };
  return {
    async run(trials, events, signal) {
      for (const trial of trials) if (!signal.aborted) await runOne(trial, events, signal);
    },
    close: () => Promise.resolve(),
  };
}
