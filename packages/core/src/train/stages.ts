import { replaceAdapter, type Adapter, type PeftModel } from '../adapter/peft-model.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData, TrainingData } from '../contracts/model.js';
import { evaluationOutputs, primaryMetricOf } from './evaluate.js';
import type { TrainOptions, TrainResult } from './options.js';

/*
 * Training in stages: each is a run of its own, with a new optimizer and a new learning-rate schedule, warmup included,
 * which continues from the model of an earlier one under another configuration. A policy chooses the next stage from
 * the results so far: sparsify.ts by levels that are given, sizing.ts by how much smaller adapters lose.
 */

/** The next stage to train. */
export interface Stage<Result> {
  /** The parts of the adapter that it starts with another of: the configuration, or also layers and values. */
  readonly start: Partial<Omit<Adapter, 'name'>>;
  /** The number of steps of the earlier stages. Dropout continues from there, so that it never repeats theirs. */
  readonly stepsBefore: number;
  /** The rows, in an order of their own. */
  readonly data: TrainingData;
  /** The options of its run. */
  readonly options: TrainOptions;
  /** Measures the model that it ends with. */
  measure(trained: TrainResult): Promise<Result>;
}

/** Trains after the steps of earlier runs. */
export type TrainRun = (...given: readonly [number, PeftModel, TrainingData, TrainOptions]) => Promise<TrainResult>;

/**
 * Trains an adapter, in place, in one stage after another.
 * @param results the results of the stages so far; those of further ones are added
 * @param next returns the stage after them; null when the run is complete
 */
export async function trainStages<Result>(
  peft: PeftModel,
  train: TrainRun,
  results: Result[],
  next: () => Stage<Result> | null,
  onStage: (result: Result, trained: TrainResult) => unknown = () => undefined,
): Promise<void> {
  for (let stage = next(); stage; stage = next()) {
    replaceAdapter(peft, stage.start);
    const trained = await train(stage.stepsBefore, peft, stage.data, stage.options);
    const result = await stage.measure(trained);
    results.push(result);
    await onStage(result, trained);
  }
}

/** Evaluates a model. Returns its primary metric, and the outputs that were scored. */
export async function scored(
  peft: PeftModel,
  data: EvaluationData,
  executor: Executor,
): Promise<{ readonly score: number; readonly outputs: Float32Array[] }> {
  const outputs = await evaluationOutputs(peft, data, { executor });
  return { score: primaryMetricOf(data, data.score(outputs)), outputs };
}

/** Returns the data starting at epoch `first`. */
export function fromEpoch(all: TrainingData, first: number): TrainingData {
  return inEpochs(all, (data) => ({ epoch: (index) => data.epoch(first + index) }));
}

/** Returns data with one epoch of `count` batches, starting at batch `first` of the sequence of all epochs. */
export function batchesFrom(all: TrainingData, first: number, count: number): TrainingData {
  return inEpochs(all, (data) => ({
    batchesPerEpoch: count,
    epoch() {
      const [batches, length]: [Batch[], number] = [[], data.batchesPerEpoch];
      for (let index = Math.floor(first / length); batches.length < count; index++) {
        const skipped = Math.max(0, first - index * length);
        batches.push(...data.epoch(index).slice(skipped, skipped + count - batches.length));
      }
      return batches;
    },
  }));
}

/** Returns the same data with other epochs. What remains after `holdOut` gets such epochs, too. */
function inEpochs(data: TrainingData, epochsOf: (data: TrainingData) => Partial<TrainingData>): TrainingData {
  const holdOut = data.holdOut?.bind(data);
  return {
    ...data,
    ...epochsOf(data),
    ...(holdOut && {
      holdOut(rows) {
        const { rest, heldOut } = holdOut(rows);
        return { rest: inEpochs(rest, epochsOf), heldOut };
      },
    }),
  };
}
