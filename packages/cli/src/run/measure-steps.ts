import type { Batch, EvaluationData, TrainingData } from '@peftjs/core';
import { epochsOf, type Trial } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';
import type { MeasuredTask } from './runner.js';
import { runTrial } from './trial.js';

/** The number of steps to measure. */
export const MEASURED_STEPS = 8;

/**
 * The cost of evaluating a row relative to training on it: one forward pass, against a forward pass and a backward pass
 * through frozen weights, which have no gradients.
 */
const FORWARD = 1 / 2;

/** Trains a prepared trial for a few steps in this process. */
export async function measureTask(trial: Trial, prepared: PreparedTrial): Promise<MeasuredTask> {
  const { task, arm, protocol } = trial;
  const batch = medianOf(prepared.train.epoch(0));
  const few: PreparedTrial = {
    ...prepared,
    train: repeated(prepared.train, batch),
    selection: ofOneBatch(prepared.selection),
    dev: ofOneBatch(prepared.dev),
    extraDevSets: {},
  };
  const { result } = await runTrial({ ...trial, protocol: { ...protocol, epochs: 1, evaluations: 1 } }, few);
  const { stepMedianMs, compileSeconds } = result.time;
  const rowsAtOnce = rowsOf(batch);
  const steps = epochsOf(trial) * prepared.train.batchesPerEpoch;
  const judged = protocol.evaluations * prepared.rows.selection + 2 * prepared.rows.dev;
  const batches = steps + (FORWARD * judged) / rowsAtOnce;
  const trialSeconds = compileSeconds + (batches * stepMedianMs) / 1000;
  return { task, arm, stepMedianMs, compileSeconds, rows: rowsAtOnce, tokens: tokensOf(batch), trialSeconds };
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
