import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { warnOnce } from '@peftjs/core';
import type { TrialProgress } from '../trial/progress.js';
import {
  WORKER_DIED,
  type WorkerFailure,
  type WorkerOutcome,
  type WorkerReply,
  type WorkerRequest,
} from './messages.js';

/** A process that does one thing at a time. */
export interface Worker {
  readonly process: ChildProcess;
  /** What it wrote to stderr last. */
  lastLine(): string;
}

/**
 * What tells glibc's allocator to keep what is freed, up to 8 GiB, and to take it from one heap: the memory of one graph's run then
 * serves the next one's. Other allocators do not know it.
 */
const KEEPS_MEMORY = { MALLOC_TRIM_THRESHOLD_: String(2 ** 33), MALLOC_MMAP_THRESHOLD_: String(2 ** 25) };

/** Starts a worker process; it ends when it is disconnected, or with its parent. */
export function startWorker(): Worker {
  // Sources run as they are; the build puts the worker beside the chunk that this code lands in.
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './workers/worker.js';
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced',
    env: { ...KEEPS_MEMORY, ...process.env },
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
