import { warnOnce, type Storage } from '@peftjs/core';
import { readCheckpoint, writeCheckpoint, type TrialCheckpoint } from './checkpoint-file.js';
import type { TrialRecorder } from './recorder.js';

/** Where the checkpoints of trials go, and how often. They change no number. */
interface CheckpointOptions {
  readonly folder: string;
  /** Steps between two checkpoints. Default 50. */
  readonly every?: number;
  readonly storage?: Storage;
}

/** The checkpoints of one trial. Nothing that goes wrong with them ends it: it is warned of once. */
export interface TrialCheckpoints {
  /** Whether one is to be written after a step. */
  isDue(step: number): boolean;
  write(checkpoint: TrialCheckpoint): Promise<void>;
  /** The last one written; null where there is none that can be read. */
  read(): Promise<TrialCheckpoint | null>;
}

/** What is kept while a trial trains, and what it goes on from. */
export interface Keeping {
  readonly recorder: TrialRecorder;
  readonly checkpoints: TrialCheckpoints;
  readonly from: TrialCheckpoint | null;
}

/** Steps between two checkpoints, when nobody says. */
const CHECKPOINT_EVERY = 50;
/** Long steps are not many at risk: a checkpoint is due after so much time, whatever the count. */
const LONGEST_MS = 60_000;
/** Time between two checkpoints, in times of what writing one takes. */
const WRITE_RATIO = 20;

/** The checkpoints of a trial in a folder. */
export function trialCheckpoints(
  id: string,
  { folder, every = CHECKPOINT_EVERY, storage }: CheckpointOptions,
): TrialCheckpoints {
  let last = performance.now();
  let cost = 0;
  return {
    isDue(step) {
      const waited = performance.now() - last;
      return waited >= WRITE_RATIO * cost && (step % every === 0 || waited >= LONGEST_MS);
    },
    async write(checkpoint) {
      const started = performance.now();
      try {
        await writeCheckpoint(folder, id, checkpoint, storage);
      } catch (error) {
        warnOnce(`${(error as Error).message}; the trial goes on without that checkpoint`);
      }
      last = performance.now();
      cost = last - started;
    },
    async read() {
      try {
        return await readCheckpoint(folder, id, storage);
      } catch (error) {
        warnOnce(`${(error as Error).message}; the trial starts anew`);
        return null;
      }
    },
  };
}

/** No checkpoints. */
export const noCheckpoints: TrialCheckpoints = {
  isDue: () => false,
  write: () => Promise.resolve(),
  read: () => Promise.resolve(null),
};

/**
 * Trains a trial from its checkpoint on, or from the start where there is none, or where the run cannot take a step from it.
 */
export async function resumed<T>(
  { id }: { readonly id: string },
  checkpoints: TrialCheckpoints,
  recorder: TrialRecorder,
  train: (from: TrialCheckpoint | null) => Promise<T>,
): Promise<T> {
  const checkpoint = await checkpoints.read();
  if (!checkpoint) return train(null);
  recorder.restore(checkpoint.record);
  try {
    return await train(checkpoint);
  } catch (error) {
    if (recorder.stored().rows.length > checkpoint.record.rows.length) throw error;
    warnOnce(`${id}: its checkpoint does not fit (${(error as Error).message}); the trial starts anew`);
    recorder.restore(null);
    return train(null);
  }
}
