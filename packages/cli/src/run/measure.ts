import type { Batch, EvaluationData, TrainingData } from '@peftjs/core';
import { inEpochs } from '@peftjs/core/runtime';
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

/** Trains a prepared trial for a few steps in this process; of one in stages, the first. */
export async function measureTask(trial: Trial, prepared: PreparedTrial): Promise<MeasuredTask> {
  const { task, arm, settings, protocol } = trial;
  const { stages } = settings;
  const batch = medianOf(prepared.train.epoch(0));
  const few: PreparedTrial = {
    ...prepared,
    train: repeated(prepared.train, batch),
    selection: ofOneBatch(prepared.selection),
    dev: ofOneBatch(prepared.dev),
    trainSubset: async (count) => ofOneBatch(await prepared.trainSubset(count)),
    extraDevSets: {},
  };
  const first = stages && { stages: { ...stages, levels: stages.levels.slice(0, 1), epochs: 1 } };
  const short = { settings: { ...settings, ...first }, protocol: { ...protocol, epochs: 1, evaluations: 1 } };
  const { result } = await runTrial({ ...trial, ...short }, few);
  const { stepMedianMs, compileSeconds } = result.time;
  const { length: rows } = batch.rows;
  const steps = epochsOf(trial) * prepared.train.batchesPerEpoch;
  const { rows: ofSets } = prepared;
  const perStage = Math.min(stages?.memorizationRows ?? 0, ofSets.train) + ofSets.selection + ofSets.dev;
  const judged = evaluationsOf(protocol) * ofSets.selection + 2 * ofSets.dev + (stages?.levels.length ?? 0) * perStage;
  const trialSeconds = compileSeconds + ((steps + (FORWARD * judged) / rows) * stepMedianMs) / 1000;
  return { task, arm, stepMedianMs, compileSeconds, rows, tokens: tokensOf(batch), trialSeconds };
}

/**
 * The largest number of evaluations on the selection rows. With early stopping there is one after every epoch, and
 * candidates mostly coincide with those.
 */
function evaluationsOf({ epochs, evaluations, earlyStoppingPatience: patience }: TrialProtocol): number {
  return patience == null ? evaluations : Math.max(epochs, evaluations);
}

/** The full batch of median length. Batches of images are all alike, and reading one decodes its images. */
function medianOf(batches: readonly Batch[]): Batch {
  const most = Math.max(...batches.map(({ rows }) => rows.length));
  const full = batches.filter(({ rows }) => rows.length === most);
  if (tokensOf(full[0] as Batch) !== null) full.sort((a, b) => Number(tokensOf(a)) - Number(tokensOf(b)));
  return full[full.length >> 1] as Batch;
}

/** Tokens that each row is padded to; null for images. */
function tokensOf({ inputs }: Batch): number | null {
  return inputs['inputIds']?.shape[1] ?? null;
}

/** One epoch that repeats the same batch. */
function repeated(data: TrainingData, batch: Batch): TrainingData {
  const epoch = (): Batch[] => new Array<Batch>(MEASURED_STEPS).fill(batch);
  return inEpochs(data, () => ({ batchesPerEpoch: MEASURED_STEPS, epoch }));
}

/**
 * Returns evaluation data of the first batch only, since only the time matters and not the score: it is 0, as that of
 * each row is where the data score rows, which an adapter that chooses its size needs.
 */
function ofOneBatch(data: EvaluationData): EvaluationData {
  const { batches, primaryMetric, summarise, takesSurprise = false } = data;
  const score = (): Record<string, number> => ({ [primaryMetric]: 0 });
  const zeros = (outputs: readonly Float32Array[]): number[] => Array.from(outputs, () => 0);
  return {
    batches: batches.slice(0, 1),
    primaryMetric,
    ...(summarise && { summarise }),
    takesSurprise,
    score,
    ...(data.predictions && {
      predictions: (outputs) => ({ predicted: zeros(outputs), actual: zeros(outputs) }),
      scoreRows: score,
    }),
  };
}
