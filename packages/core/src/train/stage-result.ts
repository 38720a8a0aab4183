import { activeRanks, storedParameters } from '../adapter/accounting.js';
import { activeAdapter, type PeftModel } from '../adapter/peft-model.js';
import type { EvaluationData } from '../contracts/model.js';

/*
 * What is known of a stage i of training in stages, relative to the first stage:
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
  /** M_i; with the divisor inverted for a metric where lower is better. Null where it cannot be compared. */
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
