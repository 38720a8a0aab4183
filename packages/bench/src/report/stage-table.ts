import type { Estimate } from '../statistics/samples.js';
import type { StageSummary } from '../statistics/stages.js';
import type { Cell } from './columns.js';
import { formatCount, formatInterval, formatMetric, formatShare, formatSmall } from './format.js';

/** The stages of an arm as a table, the same in the page and in Markdown. */
export interface StageTable {
  readonly titles: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

/** One row a stage; `metric` is the primary one. */
export function stageTable(stages: readonly StageSummary[], metric: string): StageTable {
  return {
    titles: [
      'stage',
      'level',
      'sparsity',
      'stored',
      'memorization, %',
      'generalization, %',
      `${metric}, training rows`,
      `${metric}, reported rows`,
    ],
    rows: stages.map((stage) => [
      { main: String(stage.stage) },
      { main: formatSmall(stage.level) },
      { main: formatShare(stage.sparsity) },
      { main: formatCount(stage.storedParameters) },
      percentCell(stage.memorization),
      percentCell(stage.generalization),
      { main: formatMetric(stage.trainMetric) },
      { main: formatMetric(stage.devMetric) },
    ]),
  };
}

/** What is left after the last stage, in a sentence. */
export function lastStage(stages: readonly StageSummary[]): string {
  const [first, last] = [stages[0], stages.at(-1)];
  if (!first || !last) return '';
  const kept = [
    ...(last.memorization ? [`${formatPercent(last.memorization.mean)} % of the memorization`] : []),
    ...(last.generalization ? [`${formatPercent(last.generalization.mean)} % of the generalization`] : []),
  ];
  const left = `The last stage leaves ${formatCount(last.storedParameters)} of ${formatCount(first.storedParameters)} stored parameters`;
  return kept.length === 0 ? `${left}.` : `${left}, ${kept.join(' and ')}.`;
}

function percentCell(value: Estimate | null): Cell {
  if (!value) return { main: '–' };
  const { mean, interval } = value;
  const main = formatPercent(mean);
  return interval && interval.low < interval.high
    ? { main, detail: formatInterval(interval, formatPercent) }
    : { main };
}

function formatPercent(value: number): string {
  return value.toFixed(1);
}
