import { availableParallelism } from 'node:os';
import type { BackendReport } from '@peftjs/engine';
import { engineFromFlags, type EnginePlan } from '../registry/executors.js';
import { checkedMethods, type EngineCheck, type StepTime, type TimedSize } from './check-engine.js';
import { deviceNames, isSoftware } from './devices.js';
import { FLOAT32, type Tolerance } from './parity.js';
import { askWorkerWithin, endWorker, startWorker } from './processes.js';
import { WORKER_DIED, type WorkerOutcome, type WorkerRequest } from './runner.js';

/** How a backend does on one method. */
export interface MethodCheck extends Pick<EngineCheck, 'farthest'> {
  readonly method: string;
  /** Whether every distance is within the tolerance. */
  readonly passed: boolean;
}

/** The time of a training step, or why there is none. */
export type Timing = StepTime | { readonly error: string };

/** The time of a training step on each encoder that steps are timed on. */
type Timings = Readonly<Record<TimedSize, Timing>>;

/** How a backend that can use a GPU does on this machine. */
export interface GpuCheck extends Pick<EnginePlan, 'executor' | 'backend'> {
  readonly status: 'passed' | 'failed' | 'unavailable';
  /** Why it is not available, or has failed. */
  readonly reason?: string;
  /** How to make it available. */
  readonly install?: string;
  /** Whether its driver computes on the processor. */
  readonly software?: boolean;
  /** Files of the graphics drivers that it has loaded; only known on Linux. */
  readonly drivers?: readonly string[];
  /** Versions of libraries that it has found on the machine. */
  readonly versions?: Readonly<Record<string, string>>;
  readonly checks?: readonly MethodCheck[];
  /** The checks without TF32, if those with the machine's settings have failed. */
  readonly withoutTf32?: readonly MethodCheck[];
  readonly steps?: Timings;
}

/** What `doctor --gpu` finds. */
export interface GpuFindings {
  /** Names of the machine's GPUs, if an installed program knows them. */
  readonly devices: readonly string[];
  readonly tolerance: Tolerance;
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

/** How backends are checked. */
export interface GpuCheckOptions {
  /** Called with a line that says what begins. */
  readonly onBegin: (line: string) => void;
  /** Milliseconds that a process may take for each answer. Default 180,000. */
  readonly answerMs?: number;
}

/**
 * Checks and times every backend that can use a GPU, one after the other, each in a separate process: a backend that
 * crashes or hangs is reported as failed, and no two of them share the memory of the GPU.
 */
export async function checkGpus({ onBegin, answerMs = ANSWER_MS }: GpuCheckOptions): Promise<GpuFindings> {
  const lending: Lending = (use, env) => withWorker(use, answerMs, env);
  onBegin('looking for backends');
  const devices = await deviceNames();
  const listed = await lending((ask) => ask({ question: 'list' }));
  const backends: GpuCheck[] = [];
  for (const report of listed.type === 'listed' ? listed.backends : []) {
    backends.push(await checkBackend(report, lending, onBegin));
  }
  onBegin('compiled on cpu: timing steps');
  const threads = availableParallelism();
  const plan = { ...planOf({ executor: 'compiled', backend: 'cpu' }), threads };
  const cpu = { threads, steps: await lending((ask) => timed(ask, plan)) };
  const error = listed.type === 'failed' ? { error: listed.error.message } : {};
  return { devices, tolerance: FLOAT32, backends, cpu, ...error };
}

/** Asks a process for something; a process that dies or takes too long has failed. */
type Ask = (request: WorkerRequest) => Promise<WorkerOutcome>;

/** Starts a process with `env` added to its environment, and ends it after `use`. */
type Lending = <T>(use: (ask: Ask) => Promise<T>, env?: Readonly<Record<string, string>>) => Promise<T>;

async function withWorker<T>(
  use: (ask: Ask) => Promise<T>,
  answerMs: number,
  env?: Readonly<Record<string, string>>,
): Promise<T> {
  const worker = startWorker(env);
  try {
    return await use((request) => askWorkerWithin(worker, request, answerMs));
  } finally {
    endWorker(worker);
  }
}

async function checkBackend(
  report: BackendReport,
  lending: Lending,
  onBegin: (line: string) => void,
): Promise<GpuCheck> {
  const { executor, backend, gpu, reason, install } = report;
  if (gpu === 'missing') {
    return { executor, backend, status: 'unavailable', reason: reason ?? 'not available', ...(install && { install }) };
  }
  const plan = planOf(report);
  const found = await lending((ask) => checkStarted(ask, plan, onBegin));
  if (found.status !== 'failed' || found.reason !== undefined || found.software) return found;
  onBegin(`${executor} on ${backend}: checking without TF32`);
  const { checks, error } = await lending((ask) => checkMethods(ask, plan), WITHOUT_TF32);
  const isPassed = error === undefined && allPassed(checks);
  return { ...found, status: isPassed ? 'passed' : 'failed', withoutTf32: checks };
}

/** Starts a backend, checks each method, and times a step. */
async function checkStarted(ask: Ask, plan: EnginePlan, onBegin: (line: string) => void): Promise<GpuCheck> {
  const { executor, backend } = plan;
  const name = `${executor} on ${backend}`;
  onBegin(`${name}: starting`);
  const started = await ask({ engine: plan });
  if (started.type === 'failed') {
    const { code, message: reason } = started.error;
    return { executor, backend, status: code === WORKER_DIED ? 'failed' : 'unavailable', reason };
  }
  onBegin(`${name}: checking ${checkedMethods.join(', ')}`);
  const { checks, error, drivers, versions } = await checkMethods(ask, plan);
  const found = { executor, backend, drivers, versions, software: isSoftware(drivers), checks };
  if (error !== undefined) return { ...found, status: 'failed', reason: error };
  onBegin(`${name}: timing steps`);
  return { ...found, status: allPassed(checks) ? 'passed' : 'failed', steps: await timed(ask, plan, found) };
}

interface MethodChecks extends Pick<EngineCheck, 'drivers' | 'versions'> {
  readonly checks: readonly MethodCheck[];
  /** Why not every method was checked. */
  readonly error?: string;
}

/** Checks each method, up to the first that gives no answer. */
async function checkMethods(ask: Ask, plan: EnginePlan): Promise<MethodChecks> {
  const checks: MethodCheck[] = [];
  let [drivers, versions]: [EngineCheck['drivers'], EngineCheck['versions']] = [[], {}];
  for (const method of checkedMethods) {
    const outcome = await ask({ question: 'check', plan, method });
    if (outcome.type === 'failed') return { checks, drivers, versions, error: `${method}: ${outcome.error.message}` };
    if (outcome.type !== 'checked') continue;
    const { farthest } = outcome.check;
    ({ drivers, versions } = outcome.check);
    const passed = KINDS.every((kind) => farthest[kind].distance <= FLOAT32[kind]);
    checks.push({ method, passed, farthest });
  }
  return { checks, drivers, versions };
}

const KINDS = ['outputs', 'gradients', 'steps'] as const satisfies readonly (keyof Tolerance)[];

/** A software device would take minutes for a step of the larger encoder, so that is left out. */
async function timed(
  ask: Ask,
  plan: EnginePlan,
  { software = false }: Pick<GpuCheck, 'software'> = {},
): Promise<Timings> {
  const small = await timing(ask, plan, 'small');
  return { small, minilm: software ? { error: 'left out on a software device' } : await timing(ask, plan, 'minilm') };
}

async function timing(ask: Ask, plan: EnginePlan, size: TimedSize): Promise<Timing> {
  const outcome = await ask({ question: 'time', plan, size });
  if (outcome.type === 'timed') return outcome.time;
  return { error: outcome.type === 'failed' ? outcome.error.message : 'no answer' };
}

function allPassed(checks: readonly MethodCheck[]): boolean {
  return checks.every(({ passed }) => passed);
}

function planOf({ executor, backend }: Pick<EnginePlan, 'executor' | 'backend'>): EnginePlan {
  return engineFromFlags({ engine: executor, backend, dtype: 'fp32' });
}
