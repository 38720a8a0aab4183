import type { EnginePlan } from '../registry/executors.js';
import type { DoneTrial } from '../results/schema.js';
import type { Trial } from '../study/trials.js';
import type { TrialPlaces } from './as-planned.js';
import type { TrialProgress } from './recorder.js';

/** What the parent asks of a worker process: to run a trial, or to start an engine. */
export type WorkerRequest = TrialRequest | { readonly engine: EnginePlan };

/** A trial to be run. */
export interface TrialRequest {
  readonly trial: Trial;
  /** The folder that the trial keeps checkpoints in, and goes on from its own; null for none. */
  readonly checkpoints: string | null;
  /** Steps between two checkpoints; the default where it is left out. */
  readonly checkpointEvery?: number;
  /** Where things are on this machine, for a trial planned on another one; the process then checks that it has what was planned. */
  readonly at?: TrialPlaces;
}

/** What a worker process tells its parent while it works. */
interface ProgressReply {
  readonly type: 'progress';
  readonly progress: TrialProgress;
}

/** What a worker process warns of. */
interface WarningReply {
  readonly type: 'warning';
  readonly message: string;
}

/** What a worker process tells its parent in the end. */
export type WorkerOutcome =
  | { readonly type: 'done'; readonly result: DoneTrial }
  | { readonly type: 'started' }
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'failed'; readonly error: WorkerFailure };

export type WorkerReply = ProgressReply | WarningReply | WorkerOutcome;

/** The code of a process that died at its work: what it was asked may do better elsewhere, or another time. */
export const WORKER_DIED = 'PEFT_WORKER';

/** Why a trial has no number, or an engine does not start. */
export interface WorkerFailure {
  readonly code: string;
  readonly message: string;
}

/** An error as a result file holds it. */
export function failureOf(error: unknown): WorkerFailure {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return {
    code: typeof code === 'string' ? code : 'PEFT_UNEXPECTED',
    message: typeof message === 'string' ? message : String(error),
  };
}

/** What happens to trials while they are run. */
export interface TrialEvents {
  onStart(trial: Trial): void;
  onProgress(trial: Trial, progress: TrialProgress): void;
  onDone(trial: Trial, result: DoneTrial): Promise<void> | void;
  onFailed(trial: Trial, failure: WorkerFailure): Promise<void> | void;
  /** The trial's process died, and the trial will be started again. */
  onRetry(trial: Trial, failure: WorkerFailure): void;
  /** Something to know of the run as a whole, in one line. */
  onNote(line: string): void;
}

/** Where trials are run: in processes of this machine, or wherever else somebody takes them. */
export interface TrialRunner {
  /** Runs trials, each to one `onDone` or `onFailed`; returns early when the signal stops it. */
  run(trials: readonly Trial[], events: TrialEvents, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
