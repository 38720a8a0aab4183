import { activeRanks, storedParameters } from '../adapter/accounting.js';
import { activeAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, EvaluationData, TrainingData } from '../contracts/model.js';
import { evaluationOutputs, primaryMetricOf } from './evaluate.js';
import { inEpochs } from './with-inputs.js';

/*
 * Training in stages: each is a run of its own, with a new optimizer and a new learning-rate schedule, warmup included,
 * which continues from the model of an earlier one under another configuration: sparsify.ts chooses it by levels that
 * are given, sizing.ts by how much smaller adapters lose. Dropout continues from the steps of the earlier stages, so
 * that it never repeats theirs. What is known of stage i is relative to the first one:
 *
 *   M_i = 100 m_i / m_0   memorization, m the primary metric on a fixed part of the training rows
 *   G_i = 100 v_i / v_0   generalization, v the metric on rows that are not trained on
 */

/** What is known of every stage's result; plain JSON. */
export interface StageResult {
  /** The stage's number, from 0. */
  readonly stage: number;
  /** Ranks alive, by module path. */
  readonly ranks: Readonly<Record<string, number>>;
  /** Numbers that the adapter stores on disk. */
  readonly storedParameters: number;
  /** Stored parameters, averaged over the steps of the stage. */
  readonly meanParameters: number;
  /** M_i; 100 m_0 / m_i for a metric where lower is better. Null where it cannot be compared. */
  readonly memorization: number | null;
  /** G_i, in the same way. */
  readonly generalization: number | null;
}

/** The primary metric of a stage on both kinds of rows. */
interface StageScores {
  /** On a fixed part of the training rows; null if not measured. */
  readonly trained: number | null;
  /** On rows that are not trained on. */
  readonly unseen: number;
}

/** Describes the model after a stage, relative to the first stage. */
export function stageResult(
  peft: PeftModel,
  { meanParameters }: Pick<StageResult, 'meanParameters'>,
  now: StageScores,
  first: StageScores,
  { lowerIsBetter = false }: Pick<EvaluationData, 'lowerIsBetter'>,
): Omit<StageResult, 'stage'> {
  const { layers, values } = activeAdapter(peft);
  const kept = (of: keyof StageScores): number | null =>
    lowerIsBetter ? percent(first[of], now[of]) : percent(now[of], first[of]);
  return {
    ranks: activeRanks(layers, values),
    storedParameters: storedParameters(layers, values),
    meanParameters,
    memorization: kept('trained'),
    generalization: kept('unseen'),
  };
}

/** Returns a share in percent; null where the divisor is not above zero. */
function percent(value: number | null, whole: number | null): number | null {
  return value !== null && whole !== null && whole > 0 ? (100 * value) / whole : null;
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
