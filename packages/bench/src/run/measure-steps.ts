import type { Batch, EvaluationData, TrainingData } from '@peftjs/core';
import type { Stages } from '../study/study.js';
import type { Trial } from '../study/trials.js';
import { trialPreparer, type PreparedTrial } from './prepare.js';
import { runTrial } from './trial.js';

/** The number of steps to measure. */
export const MEASURED_STEPS = 8;

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
  /** Tokens that each of these rows is padded to. */
  readonly tokens: number;
  /**
   * The estimated duration of a whole trial in seconds: compilation, training steps, and evaluated rows at a third of
   * the cost of trained ones.
   */
  readonly trialSeconds: number;
}

/**
 * The cost of evaluating a row relative to training on it: one forward pass, against one forward and a backward pass
 * that costs two.
 */
const FORWARD = 1 / 3;

/** Trains each trial for a few steps on its batch of median length, one after another in this process. */
export async function measureTasks(trials: readonly Trial[], signal: AbortSignal): Promise<MeasuredTask[]> {
  const prepare = trialPreparer();
  const measured: MeasuredTask[] = [];
  for (const trial of trials) measured.push(await measureTask(trial, await prepare(trial), signal));
  return measured;
}

async function measureTask(trial: Trial, prepared: PreparedTrial, signal: AbortSignal): Promise<MeasuredTask> {
  const { task, arm, protocol } = trial;
  const batch = medianOf(prepared.train.epoch(0));
  const few: PreparedTrial = {
    ...prepared,
    train: repeated(prepared.train, batch),
    selection: ofOneBatch(prepared.selection),
    dev: ofOneBatch(prepared.dev),
    extraDevSets: {},
  };
  const { result } = await runTrial({ ...trial, protocol: { ...protocol, epochs: 1, evaluations: 1 } }, few, {
    signal,
  });
  const { stepMedianMs, compileSeconds } = result.time;
  const rowsAtOnce = rowsOf(batch);
  const steps = epochsOf(trial) * prepared.train.batchesPerEpoch;
  const judged = protocol.evaluations * prepared.rows.selection + 2 * prepared.rows.dev;
  const batches = steps + (FORWARD * judged) / rowsAtOnce;
  const trialSeconds = compileSeconds + (batches * stepMedianMs) / 1000;
  return { task, arm, stepMedianMs, compileSeconds, rows: rowsAtOnce, tokens: tokensOf(batch), trialSeconds };
}

/** The epochs of a whole trial, in all its stages. */
function epochsOf({ protocol, settings }: Pick<Trial, 'protocol' | 'settings'>): number {
  const stages: Stages | undefined = settings.stages;
  if (!stages) return protocol.epochs;
  return (stages.epochs ?? protocol.epochs) + (stages.levels.length - 1) * stages.stageEpochs;
}

/** The full batch of median length. */
function medianOf(batches: readonly Batch[]): Batch {
  const most = Math.max(...batches.map(rowsOf));
  const full = batches.filter((batch) => rowsOf(batch) === most).sort((a, b) => tokensOf(a) - tokensOf(b));
  return full[full.length >> 1] as Batch;
}

function rowsOf({ inputs }: Batch): number {
  return inputs['inputIds']?.shape[0] ?? 1;
}

function tokensOf({ inputs }: Batch): number {
  return inputs['inputIds']?.shape[1] ?? 0;
}

/** One epoch that repeats the same batch. */
function repeated(data: TrainingData, batch: Batch): TrainingData {
  const { kind, holdOut } = data;
  return {
    kind,
    batchesPerEpoch: MEASURED_STEPS,
    epoch: () => new Array<Batch>(MEASURED_STEPS).fill(batch),
    ...(holdOut && {
      holdOut: (rows: number) => {
        const { rest, heldOut } = holdOut.call(data, rows);
        return { rest: repeated(rest, batch), heldOut };
      },
    }),
  };
}

/** Returns evaluation data of the first batch only, since only the time matters and not the score. */
function ofOneBatch({ batches, primaryMetric, summarise }: EvaluationData): EvaluationData {
  return {
    batches: batches.slice(0, 1),
    primaryMetric,
    ...(summarise && { summarise }),
    score: () => ({ [primaryMetric]: 0 }),
  };
}
