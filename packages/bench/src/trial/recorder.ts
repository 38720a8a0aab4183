import type { EvaluationEvent, StepEvent } from '@peftjs/core';
import { median } from 'simple-statistics';
import type { Trial } from '../plan/trial.js';
import { boundedHistory } from '../results/history.js';
import type { DoneTrial, HistoryRow } from '../results/schema.js';
import type { PreparedTrial } from './prepare.js';
import type { TrialProgress } from './progress.js';

/** Listens to a training run and keeps what the result file says of it. */
export interface TrialRecorder {
  readonly onStep: (event: StepEvent) => void;
  readonly onEvaluation: (event: EvaluationEvent) => void;
  history(): HistoryRow[];
  time(compileMs: number, startedAt: Date): DoneTrial['time'];
  peakRssBytes(): number;
}

/** Makes a recorder that passes progress on. */
export function trialRecorder(
  { protocol: { epochs } }: Trial,
  { selection }: Pick<PreparedTrial, 'selection'>,
  onProgress: (progress: TrialProgress) => void = () => undefined,
): TrialRecorder {
  const rows: HistoryRow[] = [];
  const milliseconds: number[] = [];
  let peak = 0;
  let metric: TrialProgress['metric'];
  return {
    onStep({ step, totalSteps, epoch, loss, objective, learningRate, storedParameters, milliseconds: ms }) {
      rows.push({ step, epoch, loss: objective, objective: loss, learningRate, stored: storedParameters });
      milliseconds.push(ms);
      peak = Math.max(peak, process.memoryUsage.rss());
      onProgress({ step, totalSteps, epoch, epochs, loss: objective, storedParameters, ...(metric ? { metric } : {}) });
    },
    onEvaluation({ metrics, ranks, storedParameters }) {
      const name = selection.primaryMetric;
      metric = { name, value: metrics[name] ?? NaN };
      const row = rows.pop();
      if (row) rows.push({ ...row, stored: storedParameters, metrics: { ...metrics }, ranks: { ...ranks } });
    },
    history: () => boundedHistory(rows),
    time(compileMs, startedAt) {
      const train = milliseconds.reduce((sum, ms) => sum + ms, 0);
      return {
        totalSeconds: (Date.now() - startedAt.getTime()) / 1000,
        trainSeconds: train / 1000,
        stepMedianMs: milliseconds.length > 0 ? median(milliseconds) : 0,
        compileSeconds: compileMs / 1000,
      };
    },
    peakRssBytes: () => peak,
  };
}
