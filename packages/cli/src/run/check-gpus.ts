import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import type { BackendReport } from '@peftjs/engine';
import { engineFromFlags, type EnginePlan } from '../registry/executors.js';
import type { EngineCheck, Timings } from './check-engine.js';
import { ask, askNew, endWorker, ensureAlive, startWorker } from './processes.js';
import { failureOf, WORKER_DIED, type Questions, type WorkerFailure } from './runner.js';

/** How a backend that can use a GPU does on this machine; what is known of a check, if it has started. */
export interface GpuCheck extends Pick<EnginePlan, 'executor' | 'backend'>, Partial<Omit<EngineCheck, 'error'>> {
  readonly status: 'passed' | 'failed' | 'unavailable';
  /** Why it is not available, or has failed. */
  readonly reason?: string;
  /** How to make it available. */
  readonly install?: string;
  /** The checks without TF32, if those with the machine's settings have failed. */
  readonly withoutTf32?: EngineCheck['checks'];
  readonly steps?: Timings;
}

/** What `doctor --gpu` finds. */
export interface GpuFindings {
  /** Names of the machine's GPUs, if an installed program knows them. */
  readonly devices: readonly string[];
  readonly backends: readonly GpuCheck[];
  /** The steps on the processor that GPUs are compared with; not timed if no backend has steps. */
  readonly cpu: { readonly threads: number; readonly steps: Timings };
  /** Why the backends could not be listed. */
  readonly error?: string;
}

/** How long a process may take for each answer. */
const ANSWER_MS = 180_000;

/** Makes NVIDIA's libraries compute float32 products in float32: they may round the factors to TF32 otherwise. */
const WITHOUT_TF32 = { NVIDIA_TF32_OVERRIDE: '0' };

/** Called with a line that says what begins. */
type Say = (line: string) => void;

/**
 * Checks and times every backend that can use a GPU, one after the other, each in a separate process: a backend that
 * crashes or hangs is reported as failed, and no two of them share the memory of the GPU.
 */
export async function checkGpus(say: Say): Promise<GpuFindings> {
  say('looking for backends');
  const devices = await deviceNames();
  const listed = await asked('list', null);
  const backends: GpuCheck[] = [];
  for (const report of 'code' in listed ? [] : listed) backends.push(await checkBackend(report, say));
  const threads = availableParallelism();
  const cpu = { threads, steps: untimed('no working GPU to compare with') };
  if (backends.some(({ steps }) => steps)) {
    say('compiled on cpu: timing steps');
    cpu.steps = timingsOf(await asked('time', { ...engineFromFlags({ backend: 'cpu' }), threads }));
  }
  return { devices, backends, cpu, ...('code' in listed && { error: listed.message }) };
}

/** Asks a new process; one that dies or takes too long has failed. */
function asked<Q extends keyof Questions>(
  question: Q,
  about: Questions[Q]['about'],
  env?: Readonly<Record<string, string>>,
): Promise<Questions[Q]['answer'] | WorkerFailure> {
  return askNew(question, about, { ms: ANSWER_MS, env }).catch(failureOf);
}

async function checkBackend(report: BackendReport, say: Say): Promise<GpuCheck> {
  const { executor, backend, gpu, reason = 'not available', install } = report;
  if (gpu === 'missing') return { executor, backend, status: 'unavailable', reason, ...(install && { install }) };
  const plan = engineFromFlags({ engine: executor, backend });
  const name = `${executor} on ${backend}`;
  const [steps, check] = await timedAndChecked(plan, (begins) => {
    say(`${name}: ${begins}`);
  });
  if ('code' in check) {
    return { executor, backend, status: check.code === WORKER_DIED ? 'failed' : 'unavailable', reason: check.message };
  }
  const { error, ...found } = check;
  if (error !== undefined) return { executor, backend, status: 'failed', reason: error, ...found };
  const result = { executor, backend, status: statusOf(check), ...found, steps };
  if (result.status === 'passed' || found.software) return result;
  say(`${name}: checking without TF32`);
  const again = await asked('check', plan, WITHOUT_TF32);
  return 'code' in again
    ? { ...result, withoutTf32: [] }
    : { ...result, status: statusOf(again), withoutTf32: again.checks };
}

function statusOf({ checks, error }: EngineCheck): 'passed' | 'failed' {
  return error === undefined && checks.every(({ passed }) => passed) ? 'passed' : 'failed';
}

/**
 * Times a backend, then checks it: in one process if that survives, since it has compiled most of the shaders by then.
 * Times come first, for the first step of a process that has compiled nothing.
 */
async function timedAndChecked(plan: EnginePlan, say: Say): Promise<[Timings, EngineCheck | WorkerFailure]> {
  say('timing steps');
  const first = startWorker();
  const steps = timingsOf(await ask(first, 'time', plan, ANSWER_MS).catch(failureOf));
  say('checking');
  const last = ensureAlive(first);
  const check = await ask(last, 'check', plan, ANSWER_MS).catch(failureOf);
  for (const worker of [first, last]) endWorker(worker);
  return [steps, check];
}

function timingsOf(answer: Timings | WorkerFailure): Timings {
  return 'code' in answer ? untimed(answer.message) : answer;
}

function untimed(error: string): Timings {
  return { small: { error }, minilm: { error } };
}

/** A program that names the GPUs of a machine with its arguments, and the part of its output that is a name. */
type DeviceSource = readonly [command: string, args: readonly string[], name: RegExp];

/** Tried on every platform: a program that is not installed is skipped. */
const SOURCES: readonly DeviceSource[] = [
  ['nvidia-smi', ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'], /^(\S.*, .*)$/gm],
  ['vulkaninfo', ['--summary'], /^[ \t]*deviceName\s*=\s*(.+)$/gm],
  ['system_profiler', ['SPDisplaysDataType'], /^[ \t]*Chipset Model:\s*(.+)$/gm],
  ['powershell', ['-NoProfile', '-Command', '(Get-CimInstance Win32_VideoController).Name'], /^(\S.*)$/gm],
];

const TIMEOUT_MS = 10_000;

/** The names of the machine's GPUs, as far as an installed program knows them. */
export async function deviceNames(sources = SOURCES): Promise<string[]> {
  return [...new Set((await Promise.all(sources.map(namesFrom))).flat())];
}

async function namesFrom([command, args, pattern]: DeviceSource): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)(command, [...args], { timeout: TIMEOUT_MS });
    return [...stdout.matchAll(pattern)].map(([, name = '']) => name.trim());
  } catch {
    return [];
  }
}
