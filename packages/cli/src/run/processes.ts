import { fork, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { PeftError } from '@peftjs/core';
import { EngineError, warnOnce } from '@peftjs/core/method';
import { Worker as Thread } from 'node:worker_threads';
import type { EnginePlan } from '../registry/executors.js';
import type { Trial } from '../study/trials.js';
import { trialPreparer } from './prepare.js';
import type { TrialProgress } from './recorder.js';
import {
  failureOf,
  WORKER_DIED,
  type Question,
  type Questions,
  type TrialEvents,
  type TrialRequest,
  type TrialRunner,
  type WorkerOutcome,
  type WorkerReply,
} from './runner.js';
import { performTrial } from './trial.js';

/** A process that handles one request at a time. */
export interface Worker {
  /** The process. */
  readonly process: ChildProcess;
  /** The last line that it wrote to stderr. */
  lastLine(): string;
}

/**
 * Starts a worker process; it ends when it is disconnected, or with its parent.
 * @param env variables that its environment has in addition to this process's
 */
export function startWorker(env: Readonly<Record<string, string>> = {}): Worker {
  // Sources run as they are; the build puts the worker beside the chunk that this code lands in.
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './run/worker.js';
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
    env: { ...process.env, ...env },
  });
  child.on('error', () => undefined); // `askWorker` says why a process cannot be started
  return { process: child, lastLine: lastOutput(child) };
}

/** Returns the same worker if it is still alive, otherwise a new one. */
export function ensureAlive(worker: Worker | undefined): Worker {
  return worker && isAlive(worker) ? worker : startWorker();
}

function isAlive({ process: { connected, killed, exitCode, signalCode } }: Worker): boolean {
  return connected && !killed && exitCode === null && signalCode === null;
}

/** Sends a request to a process and waits for its reply or its end. A process that has ended fails at once. */
export function askWorker(
  worker: Worker,
  request: TrialRequest | Question,
  onProgress: (progress: TrialProgress) => void = () => undefined,
): Promise<WorkerOutcome> {
  const { process: child, lastLine } = worker;
  if (!isAlive(worker)) return Promise.resolve(died('the worker process has ended'));
  return new Promise((resolve) => {
    const onMessage = (reply: WorkerReply): void => {
      if (reply.type === 'progress') onProgress(reply.progress);
      else if (reply.type === 'warning') warnOnce(reply.message);
      else settle(reply);
    };
    const onExit = (code: number | null, killedBy: string | null): void => {
      settle(died(deathOf(code, killedBy, lastLine())));
    };
    const onError = ({ message }: Error): void => {
      if (child.pid === undefined) settle(died(`the worker process cannot be started: ${message}`));
    };
    const settle = (outcome: WorkerOutcome): void => {
      child.off('message', onMessage).off('exit', onExit).off('error', onError);
      resolve(outcome);
    };
    child.on('message', onMessage).on('exit', onExit).on('error', onError);
    child.send(request, () => undefined); // an unreachable process is reported by 'exit'
  });
}

/**
 * Asks a worker a question. One that has not answered within `ms` milliseconds is killed, and has failed like one that
 * died.
 * @throws PeftError with the code and message of the failure.
 */
export async function ask<Q extends keyof Questions>(
  worker: Worker,
  question: Q,
  about: Questions[Q]['about'],
  ms?: number,
): Promise<Questions[Q]['answer']> {
  const outcome = await withinTime(worker, askWorker(worker, { question, about }), ms);
  if (outcome.type === 'answer') return outcome.answer;
  if (outcome.type === 'failed') throw new PeftError(outcome.error.code, outcome.error.message);
  throw new PeftError(WORKER_DIED, 'the worker process gave no answer');
}

async function withinTime(worker: Worker, outcome: Promise<WorkerOutcome>, ms?: number): Promise<WorkerOutcome> {
  if (ms === undefined) return outcome;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<WorkerOutcome>((resolve) => {
    timer = setTimeout(() => {
      worker.process.kill('SIGKILL');
      resolve(died(`the worker process gave no answer within ${Math.round(ms / 1000)} s and was stopped`));
    }, ms);
  });
  try {
    return await Promise.race([outcome, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Lets a worker end by itself. One that does not, because a driver hangs, does not keep this process alive. */
export function endWorker({ process: child }: Worker): void {
  if (child.connected) child.disconnect();
  child.unref();
  (child.stderr as Socket | null)?.unref();
}

/** Collects what a process says on stderr; gives its last line, or that by which Node says why it gives up. */
function lastOutput(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-20_000);
  });
  return () => /^FATAL ERROR: .*/m.exec(text)?.[0] ?? text.trim().split('\n').at(-1) ?? '';
}

/** Signals and exit codes that suggest lack of memory: from the kernel, Node or native libraries. */
const OUT_OF_MEMORY = ['SIGKILL', 'SIGABRT', 134];

function died(message: string): WorkerOutcome {
  return { type: 'failed', error: { code: WORKER_DIED, message } };
}

function deathOf(code: number | null, killedBy: string | null, lastLine: string): string {
  const how = killedBy === null ? `ended with exit code ${String(code)}` : `was killed by ${killedBy}`;
  const hint = OUT_OF_MEMORY.includes(killedBy ?? code ?? 0) ? ', probably because memory ran out' : '';
  return `the worker process ${how}${hint}${lastLine === '' ? '' : ` (${lastLine})`}`;
}

/**
 * How often a trial is started if its process dies. A retry runs alone, after all other trials, since these may have
 * taken its memory.
 */
const ATTEMPTS = 2;

/** Runs trials in `workers` processes of this machine, in order, each in the next free process. */
export function localRunner({
  workers,
  ...checkpointing
}: Omit<TrialRequest, 'trial'> & { readonly workers: number }): TrialRunner {
  return {
    async run(trials, events, signal) {
      let pending = [...trials];
      for (let attempt = 1; pending.length > 0 && !signal.aborted; attempt++) {
        const died: Trial[] = [];
        const isLast = attempt === ATTEMPTS;
        await inProcesses(pending, attempt === 1 ? workers : 1, signal, async (worker, trial, ends) => {
          events.onStart(trial);
          const onProgress = events.onProgress.bind(events, trial);
          const outcome = await askWorker(worker, { trial, ...checkpointing }, onProgress);
          if (ends.aborted) return;
          if (outcome.type === 'done') await events.onDone(trial, outcome.result);
          if (outcome.type !== 'failed') return;
          const { error } = outcome;
          const hasDied = error.code === WORKER_DIED;
          const failure = hasDied ? { ...error, message: `${error.message}${isLast ? GIVEN_UP : RETRIED}` } : error;
          if (!hasDied || isLast) return events.onFailed(trial, failure);
          died.push(trial);
          events.onRetry(trial, failure);
        });
        pending = died;
      }
    },
  };
}

const RETRIED = '; it will be retried alone, after the others';
const GIVEN_UP = `, ${ATTEMPTS} times, the last time with no other trial running; smaller batches or shorter rows need less memory`;

/**
 * Runs trials, each in the next free process; one that dies is replaced. The signal kills the processes, whose trials
 * are lost. If `run` fails, for example because a result cannot be recorded, all processes are killed too.
 */
async function inProcesses(
  pending: Trial[],
  processes: number,
  signal: AbortSignal,
  run: (worker: Worker, trial: Trial, ends: AbortSignal) => Promise<void> | void,
): Promise<void> {
  const failure = new AbortController();
  const ends = AbortSignal.any([signal, failure.signal]);
  const runNext = async (): Promise<void> => {
    let worker: Worker | undefined;
    const stop = (): void => void worker?.process.kill('SIGKILL');
    ends.addEventListener('abort', stop);
    try {
      for (let trial = pending.shift(); trial && !ends.aborted; trial = pending.shift()) {
        worker = ensureAlive(worker);
        await run(worker, trial, ends);
      }
    } finally {
      ends.removeEventListener('abort', stop);
      if (worker?.process.connected) worker.process.disconnect();
    }
  };
  const pool = Array.from({ length: Math.min(processes, pending.length) }, runNext);
  try {
    await Promise.all(pool);
  } finally {
    failure.abort();
    await Promise.allSettled(pool);
  }
}

/**
 * Asks a new process, which may take `ms` milliseconds. Default: no limit.
 * @throws PeftError if it dies, takes longer or answers with an error.
 */
export async function askNew<Q extends keyof Questions>(
  question: Q,
  about: Questions[Q]['about'],
  { ms, env }: { readonly ms?: number; readonly env?: Readonly<Record<string, string>> | undefined } = {},
): Promise<Questions[Q]['answer']> {
  const worker = startWorker(env);
  try {
    return await ask(worker, question, about, ms);
  } finally {
    endWorker(worker);
  }
}

/**
 * Starts an engine in a separate process, since drivers may write to the output or crash.
 * @throws EngineError with the reason if it does not start on this machine.
 */
export async function assertStarts(engine: EnginePlan): Promise<void> {
  await askNew('start', engine).catch((error: unknown) => {
    throw new EngineError((error as Error).message, engine.backend);
  });
}

/** Runs trials one after another in this process, for debuggers and tests. A crash ends the whole run. */
export function inProcessRunner(checkpointing: Omit<TrialRequest, 'trial'>): TrialRunner {
  const prepare = trialPreparer();
  const runOne = async (trial: Trial, events: TrialEvents, signal: AbortSignal): Promise<void> => {
    events.onStart(trial);
    const onProgress = events.onProgress.bind(events, trial);
    const outcome = await prepare(trial)
      .then((prepared) => performTrial({ trial, ...checkpointing }, prepared, onProgress, signal))
      .catch(failureOf);
    if (signal.aborted) return;
    if ('status' in outcome) await events.onDone(trial, outcome);
    else await events.onFailed(trial, outcome);
  };
  return {
    async run(trials, events, signal) {
      for (const trial of trials) if (!signal.aborted) await runOne(trial, events, signal);
    },
  };
}

/** Milliseconds between checks of the parent. */
const CHECK_MS = 500;

/**
 * Ends this process soon after its parent has ended. A separate thread checks the parent's process id, since no event
 * reaches this thread during a long native call.
 */
export function endWithParent(): void {
  const look = `if (process.ppid !== ${process.ppid}) process.kill(process.pid, 'SIGKILL');`;
  const thread = new Thread(`setInterval(() => { ${look} }, ${CHECK_MS});`, { eval: true, execArgv: [], env: {} });
  thread.unref();
}

/** The exit code after Ctrl-C. */
export const INTERRUPTED = 130;

/** Aborts the current work on the next SIGINT or SIGTERM. */
let current: AbortController | undefined;

/**
 * Runs `work` with a signal that Ctrl-C or a SIGTERM aborts; a second one ends this process at once with exit code 130.
 * The handlers stay until the process ends: without them, a signal after the end of `work` would give another exit
 * code.
 */
export async function untilSignal<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  if (current === undefined) process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  current = new AbortController();
  return work(current.signal);
}

function onSignal(): void {
  if (current?.signal.aborted) process.exit(INTERRUPTED);
  warnOnce('stopping; press Ctrl-C again to end at once');
  current?.abort();
}
