import { availableParallelism } from 'node:os';
import type { BackendReport } from '@peftjs/engine';
import { engineFromFlags, type EnginePlan } from '../registry/executors.js';
import type { EngineCheck, Timings } from './check-engine.js';
import { deviceNames } from './devices.js';
import { askWorkerWithin, endWorker, startWorker } from './processes.js';
import { WORKER_DIED, type WorkerOutcome, type WorkerRequest } from './runner.js';

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
  /** The steps on the processor that GPUs are compared with. */
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
  const listed = await withWorker((ask) => ask({ question: 'list' }));
  const backends: GpuCheck[] = [];
  for (const report of listed.type === 'listed' ? listed.backends : []) backends.push(await checkBackend(report, say));
  say('compiled on cpu: timing steps');
  const threads = availableParallelism();
  const plan = { ...planOf({ executor: 'compiled', backend: 'cpu' }), threads };
  const cpu = { threads, steps: await withWorker((ask) => timed(ask, plan)) };
  return { devices, backends, cpu, ...(listed.type === 'failed' && { error: listed.error.message }) };
}

/** Asks a process for something; a process that dies or takes too long has failed. */
type Ask = (request: WorkerRequest) => Promise<WorkerOutcome>;

async function withWorker<T>(use: (ask: Ask) => Promise<T>, env?: Readonly<Record<string, string>>): Promise<T> {
  const worker = startWorker(env);
  try {
    return await use((request) => askWorkerWithin(worker, request, ANSWER_MS));
  } finally {
    endWorker(worker);
  }
}

async function checkBackend(report: BackendReport, say: Say): Promise<GpuCheck> {
  const { executor, backend, gpu, reason = 'not available', install } = report;
  if (gpu === 'missing') return { executor, backend, status: 'unavailable', reason, ...(install && { install }) };
  const plan = planOf(report);
  const found = await withWorker((ask) => checkAndTime(ask, plan, say));
  if (found.status !== 'failed' || found.reason !== undefined || found.software) return found;
  say(`${executor} on ${backend}: checking without TF32`);
  const again = await withWorker((ask) => ask({ question: 'check', plan }), WITHOUT_TF32);
  if (again.type !== 'checked') return { ...found, withoutTf32: [] };
  return { ...found, status: statusOf(again.check), withoutTf32: again.check.checks };
}

async function checkAndTime(ask: Ask, plan: EnginePlan, say: Say): Promise<GpuCheck> {
  const { executor, backend } = plan;
  say(`${executor} on ${backend}: checking`);
  const outcome = await ask({ question: 'check', plan });
  if (outcome.type !== 'checked') {
    const { code, message: reason } = failureIn(outcome);
    return { executor, backend, status: code === WORKER_DIED ? 'failed' : 'unavailable', reason };
  }
  const { error, ...check } = outcome.check;
  const found = { executor, backend, status: statusOf(outcome.check), ...check };
  if (error !== undefined) return { ...found, reason: error };
  say(`${executor} on ${backend}: timing steps`);
  return { ...found, steps: await timed(ask, plan) };
}

function statusOf({ checks, error }: EngineCheck): 'passed' | 'failed' {
  return error === undefined && checks.every(({ passed }) => passed) ? 'passed' : 'failed';
}

async function timed(ask: Ask, plan: EnginePlan): Promise<Timings> {
  const outcome = await ask({ question: 'time', plan });
  if (outcome.type === 'timed') return outcome.timings;
  const error = failureIn(outcome).message;
  return { small: { error }, minilm: { error } };
}

function failureIn(outcome: WorkerOutcome): { readonly code: string; readonly message: string } {
  return outcome.type === 'failed' ? outcome.error : { code: WORKER_DIED, message: 'no answer' };
}

function planOf({ executor, backend }: Pick<EnginePlan, 'executor' | 'backend'>): EnginePlan {
  return engineFromFlags({ engine: executor, backend, dtype: 'fp32' });
}
