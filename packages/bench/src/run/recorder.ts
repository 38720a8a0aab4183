import { median } from 'simple-statistics';
import type { EvaluationEvent, StepEvent } from '@peftjs/core/runtime';
import { boundedHistory, type DoneTrial, type HistoryRow } from '../results/schema.js';
import { epochsBefore } from '../study/study.js';
import type { Trial } from '../study/trials.js';
import type { PreparedTrial } from './prepare.js';

/** Listens to a training run and keeps what the result file says of it; its clock runs from when it is made. */
export interface TrialRecorder {
  readonly onStep: (event: StepEvent, stage?: TrialStage) => void;
  readonly onEvaluation: (event: Pick<EvaluationEvent, 'metrics' | 'ranks' | 'storedParameters'>) => void;
  history(): HistoryRow[];
  /** When the trial began and how long it took until now. Durations do not depend on the time of day. */
  dates(): { readonly startedAt: Date; readonly finishedAt: Date };
  time(compileMs: number): DoneTrial['time'];
  peakRssBytes(): number;
  /** Everything that is recorded so far, as a checkpoint keeps it. */
  stored(): StoredTrialRecord;
  /** Goes on from what a checkpoint kept, its time included; null forgets it again. */
  restore(record: StoredTrialRecord | null): void;
}

/** What a recorder holds: plain JSON. */
export interface StoredTrialRecord {
  readonly startedAt: string;
  /** Time spent until then, in all attempts. */
  readonly milliseconds: number;
  readonly rows: readonly HistoryRow[];
  readonly stepMilliseconds: readonly number[];
  readonly peakRssBytes: number;
}

/** Makes a recorder that passes progress on. */
export function trialRecorder(
  { protocol, settings: { stages } }: Trial,
  { selection }: Pick<PreparedTrial, 'selection'>,
  onProgress: (progress: TrialProgress) => void = () => undefined,
): TrialRecorder {
  const made = { at: new Date(), clock: performance.now() };
  let startedAt = made.at;
  let spentBefore = 0;
  let rows: HistoryRow[] = [];
  let milliseconds: number[] = [];
  let peak = 0;
  let metric: TrialProgress['metric'];
  const spent = (): number => spentBefore + performance.now() - made.clock;
  const epochs = stages ? epochsBefore(stages.levels.length, stages, protocol.epochs) : protocol.epochs;
  return {
    onStep(
      { step, totalSteps, epoch, loss, objective, learningRate, storedParameters, ranks, milliseconds: ms },
      stage,
    ) {
      const counted = ranks ? { ranks: { ...ranks } } : {};
      rows.push({ step, epoch, loss, objective, learningRate, stored: storedParameters, ...counted });
      milliseconds.push(ms);
      peak = Math.max(peak, process.memoryUsage.rss());
      const told = { step, totalSteps, epoch, epochs, loss, storedParameters };
      onProgress({ ...told, ...(stage && { stage }), ...(metric && { metric }) });
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
      rows: [...rows],
      stepMilliseconds: [...milliseconds],
      peakRssBytes: peak,
    }),
    restore(record) {
      startedAt = record ? new Date(record.startedAt) : made.at;
      spentBefore = record?.milliseconds ?? 0;
      rows = [...(record?.rows ?? [])];
      milliseconds = [...(record?.stepMilliseconds ?? [])];
      peak = record?.peakRssBytes ?? 0;
    },
  };
}

/** Where a trial that is trained in stages is. */
interface TrialStage {
  readonly stage: number;
  readonly stages: number;
}

/** What a running trial tells. */
export interface TrialProgress {
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly epochs: number;
  /** Of a trial that is trained in stages: which one, from 0, and how many there are. */
  readonly stage?: TrialStage;
  readonly loss: number;
  readonly storedParameters: number;
  readonly metric?: { readonly name: string; readonly value: number };
}

/** A call that is made at once, and then at most once in so many milliseconds; what comes too soon is dropped. */
export function throttled<T>(call: (value: T) => void, ms: number): (value: T) => void {
  let last = -Infinity;
  return (value) => {
    const now = performance.now();
    if (now - last < ms) return;
    last = now;
    call(value);
  };
}
