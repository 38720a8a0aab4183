import type { Batch, EvaluationData, TrainingData } from '@peftjs/core';
import { epochsOf, type Trial, type TrialProtocol } from '../study/trials.js';
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
  const { rows, tokens } = sizeOf(batch);
  const steps = epochsOf(trial) * prepared.train.batchesPerEpoch;
  const judged = evaluationsOf(protocol) * prepared.rows.selection + 2 * prepared.rows.dev;
  const trialSeconds = compileSeconds + ((steps + (FORWARD * judged) / rows) * stepMedianMs) / 1000;
  return { task, arm, stepMedianMs, compileSeconds, rows, tokens, trialSeconds };
}

/**
 * The largest number of evaluations on the selection rows. With early stopping there is one after every epoch, and
 * candidates mostly coincide with those.
 */
function evaluationsOf({ epochs, evaluations, earlyStoppingPatience: patience }: TrialProtocol): number {
  return patience == null ? evaluations : Math.max(epochs, evaluations);
}

/** The full batch of median length. */
function medianOf(batches: readonly Batch[]): Batch {
  const most = Math.max(...batches.map((batch) => sizeOf(batch).rows));
  const full = batches.filter((batch) => sizeOf(batch).rows === most);
  full.sort((a, b) => sizeOf(a).tokens - sizeOf(b).tokens);
  return full[full.length >> 1] as Batch;
}

function sizeOf({ inputs }: Batch): { readonly rows: number; readonly tokens: number } {
  const [rows = 1, tokens = 0] = inputs['inputIds']?.shape ?? [];
  return { rows, tokens };
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
function ofOneBatch({ batches, primaryMetric, summarise, takesSurprise = false }: EvaluationData): EvaluationData {
  return {
    batches: batches.slice(0, 1),
    primaryMetric,
    ...(summarise && { summarise }),
    takesSurprise,
    score: () => ({ [primaryMetric]: 0 }),
  };
}
