import type { Job } from 'bullmq';
import { PeftError } from '@peftjs/core';
import { asJson } from '../results/json.js';
import { throttled, type TrialProgress } from '../trial/progress.js';
import { WORKER_DIED } from '../workers/messages.js';
import { LOCK_MS, LOCK_RENEWAL_MS, type TrialJob, type TrialOutcome } from './contract.js';

/** Between two words of a running trial's progress. */
const PROGRESS_MS = 1_000;

/** A trial that a worker holds until it settles it, gives it back, or loses it to another one. */
export interface TakenTrial {
  readonly id: string;
  readonly queue: string;
  /** As it came from Redis. */
  readonly content: unknown;
  /** Aborted when Redis no longer knows that this worker has it. */
  readonly lost: AbortSignal;
  progress(progress: TrialProgress): void;
  /** How it ended for good. */
  settle(outcome: TrialOutcome): Promise<void>;
  /** The process that ran it died: it is run again, a few times at most. */
  fail(message: string): Promise<void>;
  /** Lets another worker have it, as if it had not been taken. */
  giveBack(): Promise<void>;
}

/** Holds a job: says again and again that somebody is at it, until it is let go. */
export function takenTrial(job: Job<TrialJob>, queue: string, token: string): TakenTrial {
  const lost = new AbortController();
  let renewing = false; // what is asked of a Redis that is away waits, and once is enough
  const renewal = setInterval(() => {
    if (renewing) return;
    renewing = true;
    job
      .extendLock(token, LOCK_MS)
      .then((held) => {
        if (held === 0) lose();
      }, lose)
      .finally(() => {
        renewing = false;
      });
  }, LOCK_RENEWAL_MS);
  const lose = (): void => {
    clearInterval(renewal);
    lost.abort();
  };
  /** Redis refuses what comes from a worker that has lost the trial. */
  const letGo = async (change: () => Promise<unknown>): Promise<void> => {
    clearInterval(renewal);
    if (!lost.signal.aborted) await change().catch(lose);
  };
  const tell = throttled((progress: TrialProgress) => {
    job.updateProgress(asJson(progress) as object).catch(() => undefined); // the next one will do
  }, PROGRESS_MS);
  return {
    id: job.id ?? '',
    queue,
    content: job.data,
    lost: lost.signal,
    progress(progress) {
      if (!lost.signal.aborted) tell(progress);
    },
    settle: (outcome) => letGo(() => job.moveToCompleted(asJson(outcome), token, false)),
    fail: (message) => letGo(() => job.moveToFailed(new PeftError(WORKER_DIED, message), token, false)),
    giveBack: () => letGo(() => job.moveToWait(token)),
  };
}
