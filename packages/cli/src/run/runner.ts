import type { BackendReport } from '@peftjs/engine';
import type { EnginePlan } from '../registry/executors.js';
import type { DoneTrial, FailedTrial } from '../results/schema.js';
import type { Trial } from '../study/trials.js';
import type { TrialPaths } from './as-planned.js';
import type { EngineCheck, Timings } from './check-engine.js';
import type { TrialProgress } from './recorder.js';

/** What a worker process is asked, besides to run trials: what each question is about, and its answer. */
export interface Questions {
  /** Does an engine start here? The answer is an error if not. */
  readonly start: { readonly about: EnginePlan; readonly answer: null };
  /** Loads what a trial needs. */
  readonly prepare: { readonly about: Trial; readonly answer: null };
  /** How long do the steps of a trial take? */
  readonly measure: { readonly about: Trial; readonly answer: MeasuredTask };
  /** Which backends can use a GPU? */
  readonly list: { readonly about: null; readonly answer: readonly BackendReport[] };
  /** How exact is an engine? */
  readonly check: { readonly about: EnginePlan; readonly answer: EngineCheck };
  /** How fast is it? */
  readonly time: { readonly about: EnginePlan; readonly answer: Timings };
}

/** A question to a worker process. */
export interface Question<Q extends keyof Questions = keyof Questions> {
  readonly question: Q;
  readonly about: Questions[Q]['about'];
}

/** A request to run a trial. */
export interface TrialRequest {
  /** The trial. */
  readonly trial: Trial;
  /** The folder of checkpoints, from which the trial resumes; null for none. */
  readonly checkpoints: string | null;
  /** Steps between checkpoints. Default 50. */
  readonly checkpointEvery?: number;
  /**
   * Paths on this machine, for a trial planned on another one. The process then checks that everything matches the
   * plan.
   */
  readonly at?: TrialPaths;
}

/** The final reply of a worker process to a request. */
export type WorkerOutcome =
  | { readonly type: 'done'; readonly result: DoneTrial }
  | { readonly type: 'answer'; readonly answer: Questions[keyof Questions]['answer'] }
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'failed'; readonly error: WorkerFailure };

/** A message of a worker process: the progress of its trial, a warning, or the final reply. */
export type WorkerReply =
  | { readonly type: 'progress'; readonly progress: TrialProgress }
  | { readonly type: 'warning'; readonly message: string }
  | WorkerOutcome;

/** The measured cost of a task's trial. */
export interface MeasuredTask {
  /** The name of the task. */
  readonly task: string;
  /** The arm that was measured; the task's other arms are assumed to be as fast. */
  readonly arm: string;
  /** The median duration of a step, in milliseconds. */
  readonly stepMedianMs: number;
  /** The duration of compilation, in seconds. */
  readonly compileSeconds: number;
  /** Rows of the measured batch. */
  readonly rows: number;
  /** Tokens that each of these rows is padded to; null for images. */
  readonly tokens: number | null;
  /**
   * The estimated duration of a whole trial in seconds, without early stopping and without the later stages of a trial
   * that chooses its size: compilation, training steps, and evaluated rows at half the cost of trained ones.
   */
  readonly trialSeconds: number;
}

/** The error code of a process that died. The same request may succeed elsewhere, or later. */
export const WORKER_DIED = 'PEFT_WORKER';

/** Why a trial has no result, or an engine does not start: an error code, such as `PEFT_DATA`, and a message. */
export type WorkerFailure = Readonly<FailedTrial['error']>;

/** The code of an error that has none: it was not thrown on purpose. */
export const UNEXPECTED = 'PEFT_UNEXPECTED';

/** Converts an error to the form that result files store. */
export function failureOf(error: unknown): WorkerFailure {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return {
    code: typeof code === 'string' ? code : UNEXPECTED,
    message: typeof message === 'string' ? message : String(error),
  };
}

/** Callbacks for the events of trials. */
export interface TrialEvents {
  /** A trial starts. */
  onStart(trial: Trial): void;
  /** A trial has taken a step. */
  onProgress(trial: Trial, progress: TrialProgress): void;
  /** A trial has finished. */
  onDone(trial: Trial, result: DoneTrial): Promise<void> | void;
  /** A trial has failed for good. */
  onFailed(trial: Trial, failure: WorkerFailure): Promise<void> | void;
  /** A trial's process died; the trial will be started again. */
  onRetry(trial: Trial, failure: WorkerFailure): void;
  /** A message about the whole run, in one line. */
  onNote(line: string): void;
}

/** Runs trials: in processes of this machine, or on workers elsewhere. */
export interface TrialRunner {
  /** Runs trials, each until one `onDone` or `onFailed`; returns early if the signal aborts. */
  run(trials: readonly Trial[], events: TrialEvents, signal: AbortSignal): Promise<void>;
  /** Releases what the runner holds beyond its trials. */
  close?(): Promise<void>;
}
