import { createHash } from 'node:crypto';
import { diskStorage, type Storage } from '@peftjs/core';
import { CheckpointError, warnOnce } from '@peftjs/core/method';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from '@peftjs/core/runtime';
import { bytesSource, openSafetensors } from '@peftjs/safetensors';
import { checkpointPath } from '../results/folder.js';
import { toJson, withNumbers } from '../results/json.js';
import type { StoredTrialRecord, TrialRecorder } from './recorder.js';

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

/** A trial between two steps: what it takes to go on from there to the numbers of a run that nothing disturbed. */
export interface TrialCheckpoint {
  readonly training: TrainingSnapshot;
  /** What the result file will say of the steps behind it. */
  readonly record: StoredTrialRecord;
  /** What a trial in stages keeps of those that are finished: plain JSON. */
  readonly stages?: readonly unknown[];
}

/** Another layout of the file is another name: what an older version wrote is not read. */
const LAYOUT = 'peftjs-trial-1';
/** Stands in the place of the file's hash, its seal, while it is computed. */
const UNSEALED = '0'.repeat(64);

/** Writes a trial's checkpoint over the one before, complete or not at all. @throws CheckpointError when it cannot. */
export async function writeCheckpoint(
  folder: string,
  id: string,
  { training, record, stages }: TrialCheckpoint,
  storage: Storage = diskStorage(),
): Promise<void> {
  const trial = toJson({ id, record, ...(stages && { stages }) });
  const bytes = writeSnapshot(training, { layout: LAYOUT, trial, sha256: UNSEALED });
  Buffer.from(bytes.buffer, bytes.byteOffset).write(sealOf(bytes, UNSEALED), sealAt(bytes, UNSEALED));
  await storage.write(checkpointPath(folder, id), bytes);
}

/**
 * Reads a trial's checkpoint; null where there is none.
 * @throws CheckpointError when it is broken, of another trial, or of another version.
 */
export async function readCheckpoint(
  folder: string,
  id: string,
  storage: Storage = diskStorage(),
): Promise<TrialCheckpoint | null> {
  const path = checkpointPath(folder, id);
  if (!(await storage.exists(path))) return null;
  const bytes = await storage.read(path);
  const { layout, trial, sha256: seal } = await headerOf(bytes, path);
  if (layout !== LAYOUT || trial === undefined || seal === undefined) {
    throw new CheckpointError(`${path}: expected a checkpoint of layout ${LAYOUT}, got ${layout ?? 'none'}`, path);
  }
  if (sealOf(bytes, seal) !== seal) {
    throw new CheckpointError(`${path} is damaged: its content does not match its hash`, path);
  }
  const { id: owner, ...rest } = JSON.parse(trial, withNumbers) as Omit<TrialCheckpoint, 'training'> & { id: string };
  if (owner !== id) throw new CheckpointError(`${path} is the checkpoint of another trial, ${owner}`, path);
  return { ...rest, training: await readSnapshot(bytes, path) };
}

async function headerOf(bytes: Uint8Array, path: string): Promise<Readonly<Record<string, string | undefined>>> {
  try {
    return (await openSafetensors(bytesSource(bytes))).metadata;
  } catch (cause) {
    throw new CheckpointError(`${path} is no checkpoint: ${(cause as Error).message}`, path, cause);
  }
}

/** The hash of a file in which `seal` stands for its own. */
function sealOf(bytes: Uint8Array, seal: string): string {
  const at = sealAt(bytes, seal);
  const hash = createHash('sha256').update(bytes.subarray(0, at)).update(UNSEALED);
  return hash.update(bytes.subarray(at + seal.length)).digest('hex');
}

function sealAt(bytes: Uint8Array, seal: string): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf(seal);
}
