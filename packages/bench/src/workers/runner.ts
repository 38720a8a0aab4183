import type { Trial } from '../plan/trial.js';
import type { DoneTrial } from '../results/schema.js';
import type { TrialProgress } from '../trial/progress.js';
import type { WorkerFailure } from './messages.js';

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
