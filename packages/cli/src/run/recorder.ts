import { median } from 'simple-statistics';
import type { EvaluationEvent, StepEvent } from '@peftjs/core/runtime';
import { boundedHistory, type DoneTrial, type HistoryRow } from '../results/schema.js';
import { epochsOf, type Trial } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';

/** Records a training run for the result file. Its clock starts when it is made. */
export interface TrialRecorder {
  /** Records a step, of a stage if the trial has stages. */
  readonly onStep: (event: StepEvent, stage?: TrialStage) => void;
  /** Records an evaluation. */
  readonly onEvaluation: (event: Pick<EvaluationEvent, 'metrics' | 'ranks' | 'storedParameters'>) => void;
  /** The training curve, thinned to the size that a result file allows. */
  history(): HistoryRow[];
  /**
   * When the trial began, and that time plus its duration so far. Changes of the system clock do not affect durations.
   */
  dates(): { readonly startedAt: Date; readonly finishedAt: Date };
  /** Durations of the trial. */
  time(compileMs: number): DoneTrial['time'];
  /** The largest resident memory so far, in bytes. */
  peakRssBytes(): number;
  /** Everything recorded so far, for a checkpoint. */
  stored(): StoredTrialRecord;
  /** Continues from a checkpoint's record, including its time; null forgets it again. */
  restore(record: StoredTrialRecord | null): void;
}

/** The state of a recorder, as plain JSON. */
export interface StoredTrialRecord {
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
  const made = { at: new Date(), clock: performance.now() };
  let startedAt = made.at;
  let spentBefore = 0;
  let total = 0;
  let rows: HistoryRow[] = [];
  let milliseconds: number[] = [];
  let peak = 0;
  let metric: TrialProgress['metric'];
  const spent = (): number => spentBefore + performance.now() - made.clock;
  const epochs = epochsOf(trial);
  return {
    onStep(
      { step, totalSteps, epoch, loss, objective, learningRate, storedParameters, ranks, milliseconds: ms },
      stage,
    ) {
      const counted = ranks ? { ranks: { ...ranks } } : {};
      total = totalSteps;
      rows.push({ step, epoch, loss, objective, learningRate, stored: storedParameters, ...counted });
      milliseconds.push(ms);
      peak = Math.max(peak, process.memoryUsage.rss());
      const progress = { step, totalSteps, epoch, epochs, loss, storedParameters };
      onProgress({ ...progress, ...(stage && { stage }), ...(metric && { metric }) });
    },
    onEvaluation({ metrics, ranks, storedParameters }) {
      const name = selection.primaryMetric;
      metric = { name, value: metrics[name] ?? NaN };
      const row = rows.pop();
      if (row) rows.push({ ...row, stored: storedParameters, metrics: { ...metrics }, ranks: { ...ranks } });
    },
    history: () => boundedHistory(rows),
    dates: () => ({ startedAt, finishedAt: new Date(Math.max(Date.now(), startedAt.getTime() + spent())) }),
    time(compileMs) {
      const train = milliseconds.reduce((sum, ms) => sum + ms, 0);
      return {
        totalSeconds: spent() / 1000,
        trainSeconds: train / 1000,
        stepMedianMs: milliseconds.length > 0 ? median(milliseconds) : 0,
        compileSeconds: compileMs / 1000,
      };
    },
    peakRssBytes: () => peak,
    stored: () => ({
      startedAt: startedAt.toISOString(),
      milliseconds: spent(),
      totalSteps: total,
      rows: [...rows],
      stepMilliseconds: [...milliseconds],
      peakRssBytes: peak,
    }),
    restore(record) {
      startedAt = record ? new Date(record.startedAt) : made.at;
      spentBefore = record?.milliseconds ?? 0;
      total = record?.totalSteps ?? 0;
      rows = [...(record?.rows ?? [])];
      milliseconds = [...(record?.stepMilliseconds ?? [])];
      peak = record?.peakRssBytes ?? 0;
    },
  };
}

/** The current stage of a trial in stages. */
interface TrialStage {
  /** The stage, from 0. */
  readonly stage: number;
  /** The number of stages. */
  readonly stages: number;
}

/** The progress that a running trial reports. */
export interface TrialProgress {
  /** Steps done. */
  readonly step: number;
  /** Steps in total. */
  readonly totalSteps: number;
  /** Epochs done, as a fraction. */
  readonly epoch: number;
  /** Epochs in total. */
  readonly epochs: number;
  /** The current stage of a trial in stages. */
  readonly stage?: TrialStage;
  /** The loss of the step. */
  readonly loss: number;
  /** The number of parameters that would be stored now. */
  readonly storedParameters: number;
  /** The latest value of the primary metric. */
  readonly metric?: { readonly name: string; readonly value: number };
}

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
