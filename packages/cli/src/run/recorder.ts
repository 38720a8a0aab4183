import { createHash } from 'node:crypto';
import { median } from 'simple-statistics';
import * as v from 'valibot';
import { diskStorage, type Storage } from '@peftjs/core';
import { CheckpointError, warnOnce } from '@peftjs/core/method';
import {
  readSnapshot,
  writeSnapshot,
  type EvaluationEvent,
  type EvaluationProgress,
  type StepEvent,
  type TrainingSnapshot,
} from '@peftjs/core/runtime';
import { bytesSource, openSafetensors } from '@peftjs/safetensors';
import { checkpointPath } from '../results/folder.js';
import { anyNumber, reviveNumbers, toJson } from '../results/json.js';
import { boundedHistory, type DoneTrial, type HistoryRow } from '../results/schema.js';
import { epochsOf, type Trial } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';

/** Records a training run for the result file. Its clock starts when it is made. */
export interface TrialRecorder {
  /** Records a step, of a stage if the trial has stages. */
  readonly onStep: (event: StepEvent, stage?: TrialProgress['stage']) => void;
  /** Records an evaluation. */
  readonly onEvaluation: (event: Pick<EvaluationEvent, 'metrics' | 'ranks' | 'storedParameters'>) => void;
  /** Reports how far an evaluation is. */
  readonly onEvaluating: (evaluating: EvaluationProgress) => void;
  /**
   * When the trial began, and now; or that time plus its duration so far if this is later, since the system clock may
   * have been set back.
   */
  dates(): { readonly startedAt: Date; readonly finishedAt: Date };
  /** The training curve, thinned to the size that a result file allows; durations; and the largest memory so far. */
  measures(compileMs: number): Pick<DoneTrial, 'history' | 'time' | 'memory'>;
  /** Everything recorded so far, for a checkpoint. */
  stored(): StoredTrialRecord;
  /** Continues from a checkpoint's record, including its time; null forgets it again. */
  restore(record: StoredTrialRecord | null): void;
}

/** The state of a recorder, as plain JSON. */
interface StoredTrialRecord {
  /** When the trial began, in ISO format. */
  readonly startedAt: string;
  /** Time spent so far, in all attempts. */
  readonly milliseconds: number;
  /** Steps in total, as known after the last step. */
  readonly totalSteps: number;
  /** The steps of the training curve. */
  readonly rows: readonly HistoryRow[];
  /** The duration of each step. */
  readonly stepMilliseconds: readonly number[];
  /** The largest resident memory so far, in bytes. */
  readonly peakRssBytes: number;
}

/** Makes a recorder of a trial that also reports progress. */
export function trialRecorder(
  trial: Trial,
  { selection }: Pick<PreparedTrial, 'selection'>,
  onProgress: (progress: TrialProgress) => void = () => undefined,
): TrialRecorder {
  const [madeAt, clock] = [new Date().toISOString(), performance.now()];
  const recorded = (from: StoredTrialRecord | null) => ({
    ...{ startedAt: madeAt, milliseconds: 0, totalSteps: 0, peakRssBytes: 0, ...from },
    rows: [...(from?.rows ?? [])],
    stepMilliseconds: [...(from?.stepMilliseconds ?? [])],
  });
  let record = recorded(null);
  let metric: TrialProgress['metric'];
  let resumedFrom: number | undefined;
  let latest: TrialProgress | undefined;
  const spent = (): number => record.milliseconds + performance.now() - clock;
  const epochs = epochsOf(trial);
  return {
    onStep({ step, totalSteps, epoch, loss, objective, learningRate, storedParameters, ranks, milliseconds }, stage) {
      const counted = ranks ? { ranks: { ...ranks } } : {};
      record.totalSteps = totalSteps;
      record.rows.push({ step, epoch, loss, objective, learningRate, stored: storedParameters, ...counted });
      record.stepMilliseconds.push(milliseconds);
      record.peakRssBytes = Math.max(record.peakRssBytes, process.memoryUsage.rss());
      latest = {
        ...{ step, totalSteps, epoch, epochs, loss, storedParameters },
        ...(stage && { stage }),
        ...(metric && { metric }),
        ...(resumedFrom && { resumedFrom }),
      };
      onProgress(latest);
    },
    onEvaluating(evaluating) {
      if (latest) onProgress({ ...latest, ...(metric && { metric }), evaluating });
    },
    onEvaluation({ metrics, ranks, storedParameters }) {
      const name = selection.primaryMetric;
      metric = { name, value: metrics[name] ?? NaN };
      const row = record.rows.pop();
      if (row) record.rows.push({ ...row, stored: storedParameters, metrics: { ...metrics }, ranks: { ...ranks } });
    },
    dates() {
      const startedAt = new Date(record.startedAt);
      return { startedAt, finishedAt: new Date(Math.max(Date.now(), startedAt.getTime() + spent())) };
    },
    measures: (compileMs) => ({
      history: boundedHistory(record.rows),
      time: {
        totalSeconds: spent() / 1000,
        trainSeconds: record.stepMilliseconds.reduce((sum, ms) => sum + ms, 0) / 1000,
        stepMedianMs: record.stepMilliseconds.length > 0 ? median(record.stepMilliseconds) : 0,
        compileSeconds: compileMs / 1000,
      },
      memory: { peakRssBytes: record.peakRssBytes },
    }),
    stored: () => ({ ...recorded(record), milliseconds: spent() }),
    restore(from) {
      record = recorded(from);
      resumedFrom = from?.rows.at(-1)?.step;
    },
  };
}

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
const amount = v.pipe(v.number(), v.finite(), v.minValue(0));

/** The schema of the progress that a running trial reports. */
export const trialProgressSchema = v.object({
  /** Steps done. */
  step: count,
  /** Steps in total; 0 while unknown. */
  totalSteps: count,
  /** Steps of an earlier process, from whose checkpoint the trial resumed. */
  resumedFrom: v.exactOptional(count),
  /** Epochs done, as a fraction. */
  epoch: amount,
  /** Epochs in total. */
  epochs: amount,
  /** The stage of a trial in stages, from 0, and the number of stages. */
  stage: v.exactOptional(v.object({ stage: count, stages: count })),
  /** The loss of the step. */
  loss: anyNumber,
  /** How far the evaluation in progress is, in rows. */
  evaluating: v.exactOptional(v.object({ rows: count, totalRows: count })),
  /** The number of parameters that would be stored now. */
  storedParameters: amount,
  /** The latest value of the primary metric. */
  metric: v.exactOptional(v.object({ name: v.pipe(v.string(), v.minLength(1), v.maxLength(4_000)), value: anyNumber })),
});

/** The progress that a running trial reports. */
export type TrialProgress = v.InferOutput<typeof trialProgressSchema>;

/**
 * Wraps a call so that it runs at most once per `ms` milliseconds, the first time at once; calls in between are
 * dropped.
 */
export function throttled<T>(call: (value: T) => void, ms: number): (value: T) => void {
  let last = -Infinity;
  return (value) => {
    const now = performance.now();
    if (now - last < ms) return;
    last = now;
    call(value);
  };
}

/** Where and how often to write a trial's checkpoints. They affect no number. */
interface CheckpointOptions {
  /** The folder of the checkpoints. */
  readonly folder: string;
  /** Steps between checkpoints. Default 50. */
  readonly every?: number | undefined;
  /**
   * Whether the trial ends with the error if a checkpoint cannot be written; the first one is then due after the first
   * step. Default false: a warning is given once.
   */
  readonly areRequired?: boolean;
  /** Where to write. Default the disk. */
  readonly storage?: Storage;
}

/** The checkpoints of one trial. */
export interface TrialCheckpoints {
  /** Whether a checkpoint is due after a step. */
  isDue(step: number): boolean;
  /** Writes a checkpoint over the previous one. @throws CheckpointError if that fails and checkpoints are required. */
  write(checkpoint: TrialCheckpoint): Promise<void>;
  /** Reads the last checkpoint; null if none can be read, with a warning if it is damaged. */
  read(): Promise<TrialCheckpoint | null>;
}

/** The recorder and checkpoints of a trial, and the checkpoint to resume from. */
export interface TrialRecording {
  /** Records the training history. */
  readonly recorder: TrialRecorder;
  /** Writes checkpoints. */
  readonly checkpoints: TrialCheckpoints;
  /** The checkpoint to resume from; null to start from the beginning. */
  readonly from: TrialCheckpoint | null;
}

/** The default number of steps between checkpoints. */
const CHECKPOINT_EVERY = 50;
/** The longest time between checkpoints: where steps are slow, one is due sooner than the count says. */
const LONGEST_MS = 60_000;
/** The least time between checkpoints, as a multiple of the time to write one. */
const WRITE_RATIO = 20;

/** The checkpoints of a trial in a folder. */
export function trialCheckpoints(
  id: string,
  { folder, every = CHECKPOINT_EVERY, areRequired = false, storage }: CheckpointOptions,
): TrialCheckpoints {
  let last = performance.now();
  let cost = 0;
  return {
    isDue(step) {
      const waited = performance.now() - last;
      const isFirst = areRequired && step === 1;
      return waited >= WRITE_RATIO * cost && (isFirst || step % every === 0 || waited >= LONGEST_MS);
    },
    async write(checkpoint) {
      const started = performance.now();
      try {
        await writeCheckpoint(folder, id, checkpoint, storage);
      } catch (error) {
        if (areRequired) throw error;
        warnOnce(`${(error as Error).message}; the trial continues without this checkpoint`);
      }
      last = performance.now();
      cost = last - started;
    },
    async read() {
      try {
        return await readCheckpoint(folder, id, storage);
      } catch (error) {
        warnOnce(`${(error as Error).message}; the trial starts from the beginning`);
        return null;
      }
    },
  };
}

/** Checkpoints that are never written. */
export const noCheckpoints: TrialCheckpoints = {
  isDue: () => false,
  write: () => Promise.resolve(),
  read: () => Promise.resolve(null),
};

/**
 * Trains a trial from its checkpoint, or from the start if there is none or if training fails before its first step
 * from there.
 */
export async function resumed<T>(
  { id }: { readonly id: string },
  { checkpoints, recorder, signal }: Omit<TrialRecording, 'from'> & { readonly signal?: AbortSignal | undefined },
  train: (from: TrialCheckpoint | null) => Promise<T>,
): Promise<T> {
  const checkpoint = await checkpoints.read();
  if (!checkpoint) return train(null);
  recorder.restore(checkpoint.record);
  try {
    return await train(checkpoint);
  } catch (error) {
    if (signal?.aborted || recorder.stored().rows.length > checkpoint.record.rows.length) throw error;
    warnOnce(`${id}: its checkpoint does not fit (${(error as Error).message}); the trial starts from the beginning`);
    recorder.restore(null);
    return train(null);
  }
}

/** A trial between two steps: enough to resume and get the numbers of an uninterrupted run. */
export interface TrialCheckpoint {
  /** The training state. */
  readonly training: TrainingSnapshot;
  /** The recorded history of the steps so far. */
  readonly record: StoredTrialRecord;
  /** The finished stages of a trial in stages, as plain JSON. */
  readonly stages?: readonly unknown[];
}

/** The layout of the file. A changed layout gets a new name, so files of older versions are not read. */
const LAYOUT = 'peftjs-trial-1';
/** The placeholder for the file's own hash while that is computed. */
const UNSEALED = '0'.repeat(64);

/** Writes a trial's checkpoint over the previous one, atomically. @throws CheckpointError if that fails. */
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
 * Reads a trial's checkpoint; null if there is none.
 * @throws CheckpointError if it is damaged, or belongs to another trial or version.
 */
export async function readCheckpoint(
  folder: string,
  id: string,
  storage: Storage = diskStorage(),
): Promise<TrialCheckpoint | null> {
  const path = checkpointPath(folder, id);
  if (!(await storage.exists(path))) return null;
  const bytes = await storage.read(path);
  const { metadata } = await openSafetensors(bytesSource(bytes)).catch((cause: unknown) => {
    throw new CheckpointError(`${path} is not a checkpoint: ${(cause as Error).message}`, path, cause);
  });
  const { layout, trial, sha256: seal } = metadata;
  if (layout !== LAYOUT || trial === undefined || seal === undefined) {
    throw new CheckpointError(`${path}: expected a checkpoint of layout ${LAYOUT}, got ${layout ?? 'none'}`, path);
  }
  if (sealOf(bytes, seal) !== seal) {
    throw new CheckpointError(`${path} is damaged: its content does not match its hash`, path);
  }
  const { id: owner, ...rest } = JSON.parse(trial, reviveNumbers) as Omit<TrialCheckpoint, 'training'> & { id: string };
  if (owner !== id) throw new CheckpointError(`${path} is the checkpoint of another trial, ${owner}`, path);
  return { ...rest, training: await readSnapshot(bytes, path) };
}

/** The hash of a file, computed with the placeholder in place of `seal`. */
function sealOf(bytes: Uint8Array, seal: string): string {
  const at = sealAt(bytes, seal);
  const hash = createHash('sha256').update(bytes.subarray(0, at)).update(UNSEALED);
  return hash.update(bytes.subarray(at + seal.length)).digest('hex');
}

function sealAt(bytes: Uint8Array, seal: string): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf(seal);
}
