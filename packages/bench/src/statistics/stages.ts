import { mean } from 'simple-statistics';
import type { DoneTrial, SparsityStage } from '../results/schema.js';
import { estimate, type Estimate } from './samples.js';

/** What a stage of the sparsifying schedule ended with, over the seeds of an arm. */
export interface StageSummary {
  readonly stage: number;
  readonly level: number;
  readonly seeds: number;
  /** Means over the seeds. */
  readonly sparsity: number;
  readonly storedParameters: number;
  readonly trainMetric: number;
  readonly devMetric: number;
  /** In percent of the first stage, over the seeds where it is finite; null where there is none. */
  readonly memorization: Estimate | null;
  readonly generalization: Estimate | null;
}

/** The stages of trials that differ in their seed only; none where they were not trained in stages. */
export function stageSummaries(trials: readonly DoneTrial[]): StageSummary[] {
  const schedules = trials.flatMap(({ stages }) => (stages ? [stages] : []));
  const count = Math.min(...schedules.map(({ length }) => length));
  if (schedules.length === 0) return [];
  return Array.from({ length: count }, (_, stage) =>
    summaryOf(schedules.map((stages) => stages[stage]).filter((record) => record !== undefined)),
  );
}

function summaryOf(records: readonly SparsityStage[]): StageSummary {
  const { stage = 0, level = 0 } = records[0] ?? {};
  const meanOf = (pick: (record: SparsityStage) => number): number => {
    const values = records.map(pick);
    return values.includes(Infinity) ? Infinity : mean(values); // whose compensated sum makes NaN of Infinity
  };
  return {
    stage,
    level,
    seeds: records.length,
    sparsity: meanOf(({ sparsity }) => sparsity),
    storedParameters: meanOf(({ storedParameters }) => storedParameters),
    trainMetric: meanOf(({ trainMetric }) => trainMetric),
    devMetric: meanOf(({ devMetric }) => devMetric),
    memorization: estimateOf(records, 'memorization'),
    generalization: estimateOf(records, 'generalization'),
  };
}

function estimateOf(records: readonly SparsityStage[], quantity: 'memorization' | 'generalization'): Estimate | null {
  const values = records.flatMap((record) => record[quantity] ?? []).filter(Number.isFinite);
  return values.length === 0 ? null : estimate(values);
}
