import type { Trial } from '../plan/trial.js';
import type { DoneTrial } from '../results/schema.js';
import type { TrialProgress } from '../trial/progress.js';

/** What the parent asks of a worker process: one trial. */
export interface WorkerRequest {
  readonly trial: Trial;
}

/** What a worker process tells its parent. */
export type WorkerReply =
  | { readonly type: 'progress'; readonly progress: TrialProgress }
  | { readonly type: 'done'; readonly result: DoneTrial }
  | { readonly type: 'failed'; readonly error: TrialFailure };

/** Why a trial has no number. */
export interface TrialFailure {
  readonly code: string;
  readonly message: string;
}

/** An error as a result file holds it. */
export function failureOf(error: unknown): TrialFailure {
  const { code, message } = error as { code?: unknown; message?: unknown };
  return {
    code: typeof code === 'string' ? code : 'PEFT_UNEXPECTED',
    message: typeof message === 'string' ? message : String(error),
  };
}
