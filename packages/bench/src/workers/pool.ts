import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Trial } from '../plan/trial.js';
import type { DoneTrial } from '../results/schema.js';
import type { TrialProgress } from '../trial/progress.js';
import type { TrialFailure, WorkerReply } from './messages.js';

/** What happens to the trials of a pool. */
interface PoolEvents {
  onStart(trial: Trial): void;
  onProgress(trial: Trial, progress: TrialProgress): void;
  onDone(trial: Trial, result: DoneTrial): Promise<void> | void;
  onFailed(trial: Trial, failure: TrialFailure): Promise<void> | void;
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

/** Sends a trial to a process and waits for its end, or for the process's. */
async function runOn(worker: Worker, trial: Trial, { signal, ...events }: PoolOptions): Promise<void> {
  const { process: child, lastLine } = worker;
  const outcome = await new Promise<WorkerReply>((resolve) => {
    const onMessage = (reply: WorkerReply): void => {
      if (reply.type === 'progress') events.onProgress(trial, reply.progress);
      else settle(reply);
    };
    const onExit = (code: number | null, killedBy: string | null): void => {
      settle({ type: 'failed', error: deathOf(code, killedBy, lastLine()) });
    };
    const settle = (reply: WorkerReply): void => {
      child.off('message', onMessage).off('exit', onExit);
      resolve(reply);
    };
    child.on('message', onMessage).on('exit', onExit);
    child.send({ trial });
  });
  if (signal.aborted) return;
  if (outcome.type === 'done') await events.onDone(trial, outcome.result);
  else if (outcome.type === 'failed') await events.onFailed(trial, outcome.error);
}

/** A process that runs trials. */
interface Worker {
  readonly process: ChildProcess;
  /** The last line that it wrote to stderr. */
  lastLine(): string;
}

function startWorker(): Worker {
  // Sources run as they are; the build puts the worker beside the chunk that this code lands in.
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './workers/worker.js';
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
  });
  return { process: child, lastLine: lastOutput(child) };
}

/** Collects what a process says on stderr; gives its last line. */
function lastOutput(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-2000);
  });
  return () => text.trim().split('\n').at(-1) ?? '';
}

function deathOf(code: number | null, killedBy: string | null, lastLine: string): TrialFailure {
  const how = killedBy === null ? `ended with exit code ${String(code)}` : `was killed by ${killedBy}`;
  const hint = killedBy === 'SIGKILL' ? '; was there too little memory? Try fewer --workers' : '';
  return { code: 'PEFT_WORKER', message: `the worker process ${how}${hint}${lastLine === '' ? '' : ` (${lastLine})`}` };
}
