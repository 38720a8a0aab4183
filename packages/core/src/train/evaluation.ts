import { allLayers } from '../adapter/peft-model.js';
import { ConfigError, didYouMean } from '../errors.js';
import type { EvaluationData } from '../contracts/model.js';
import { outputsWith } from './evaluate.js';
import type { TrainOptions } from './options.js';
import { checkpoint, type Run } from './run.js';
import type { Checkpoint } from './snapshot.js';

/** Returns whether the adapter is evaluated after this step: as a candidate, or because `evaluateEvery` is due. */
export function isEvaluationDue(run: Run): boolean {
  return run.settings.candidateSteps.has(run.step) || isPeriodic(run);
}

/** Returns whether early stopping ends the run here, before its last step. */
export function hasStopped({ settings: { earlyStopping, plan }, stopping, step }: Run): boolean {
  return earlyStopping !== null && stopping.waited >= earlyStopping.patience && step < plan.totalSteps;
}

/** Returns the checkpoint that the run ends with; null where none qualified. */
export function selectedCheckpoint(run: Run): Checkpoint | null {
  return (hasStopped(run) ? run.stopping.best : null) ?? run.selected;
}

/**
 * Evaluates the adapter on the selection data. It becomes the selected checkpoint if it is the best candidate within
 * its budget, and the one that early stopping keeps if it is the best of all within it.
 * @throws ConfigError when the scores lack the primary metric or that of early stopping.
 */
export async function evaluateRun(run: Run, report: TrainOptions['onEvaluation']): Promise<void> {
  const { selection, candidateSteps, earlyStopping } = run.settings;
  if (!selection) return;
  const { data } = selection;
  const metrics = data.score(await outputsWith(run.runtime, allLayers(run.adapter), run.state.adapter, data));
  primaryMetricOf(data, metrics);
  const measured = { ...(await checkpoint(run)), metrics };
  const holdsBudget = run.controller?.holdsBudget(run.step) ?? true;
  const best = candidateSteps.has(run.step) && holdsBudget && isBetter(data, measured, run.selected);
  if (best) run.selected = measured;
  if (earlyStopping && holdsBudget) waitForBetter(run, data, measured);
  const { step, storedParameters, ranks } = measured;
  await report?.({ step, metrics, primaryMetric: data.primaryMetric, storedParameters, ranks, best });
}

function isPeriodic({ step, settings: { evaluateEvery } }: Run): boolean {
  return evaluateEvery !== null && step % evaluateEvery === 0;
}

/** Updates the count of periodic evaluations since the last improvement. */
function waitForBetter(run: Run, data: EvaluationData, measured: Checkpoint): void {
  const { stopping, settings } = run;
  if (isBetter(data, measured, stopping.best)) stopping.best = measured;
  if (!settings.earlyStopping || !isPeriodic(run)) return;
  const { metric, lowerIsBetter, minDelta } = settings.earlyStopping;
  const value = measured.metrics[metric];
  if (value === undefined) {
    const known = Object.keys(measured.metrics);
    throw new ConfigError(
      `earlyStopping.metric is '${metric}'${didYouMean(metric, known)}; the selection data have ${known.join(', ')}`,
      'earlyStopping.metric',
    );
  }
  const gain = (lowerIsBetter ? -1 : 1) * (value - (stopping.record ?? NaN));
  const improves = stopping.record === null ? !Number.isNaN(value) : gain > minDelta;
  if (improves) stopping.record = value;
  stopping.waited = improves ? 0 : stopping.waited + 1;
}

/** Compares by the primary metric. A checkpoint whose metric is NaN is never better. */
function isBetter(data: EvaluationData, measured: Checkpoint, than: Checkpoint | null): boolean {
  return orientedScore(data, measured.metrics) > orientedScore(data, than?.metrics);
}

/** Returns the primary metric with its sign set so that higher is better; -Infinity where it is missing. */
function orientedScore(
  { primaryMetric, lowerIsBetter = false }: EvaluationData,
  metrics: Checkpoint['metrics'] = {},
): number {
  const value = metrics[primaryMetric];
  if (value === undefined) return -Infinity;
  return lowerIsBetter ? -value : value;
}

/** Returns the primary metric. @throws ConfigError when the scores lack it. */
export function primaryMetricOf(
  data: Pick<EvaluationData, 'primaryMetric'>,
  metrics: Readonly<Record<string, number>>,
): number {
  const value = metrics[data.primaryMetric];
  if (value !== undefined) return value;
  const found = Object.keys(metrics).join(', ') || 'none';
  throw new ConfigError(`the data's score has no '${data.primaryMetric}', only ${found}`, 'primaryMetric');
}

/**
 * Returns 100 m_i / m_0, or 100 m_0 / m_i for a metric where lower is better; null where the divisor is not above zero.
 */
export function keptPercent(first: number, now: number, lowerIsBetter: boolean): number | null {
  return lowerIsBetter ? percent(first, now) : percent(now, first);
}

function percent(value: number, whole: number): number | null {
  return whole > 0 ? (100 * value) / whole : null;
}
