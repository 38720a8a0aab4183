import type { DoneTrial, TrialResult } from '@peftjs/bench';
import { mean, sampleStandardDeviation } from 'simple-statistics';
import { markdownTable } from '../perf-peer/tables.js';
import { dotChart } from './dot-chart.js';

/** Scores with 1,000 training rows, in percent, with standard deviations where known: Mao et al. 2022, arXiv 2110.07577. */
const PUBLISHED: Readonly<Record<string, Readonly<Record<string, readonly [mean: number, sd?: number]>>>> = {
  lora: { cola: [45.5, 1.11], stsb: [81.56, 1.97], sst2: [86.26, 1.22], mrpc: [86.04, 0.99], rte: [65.63, 2.11] },
  adapter: { cola: [42.33], stsb: [85.52], sst2: [85.6], mrpc: [84.49], rte: [61.81] },
  bitfit: { cola: [22.44], stsb: [79.04], sst2: [83.99], mrpc: [83.95], rte: [62.89] },
};

const METHODS: Readonly<Record<string, string>> = { lora: 'LoRA', adapter: 'adapter', bitfit: 'BitFit' };

/** The metric of each task in UniPELT, and its name on the page. */
const TASKS: Readonly<Record<string, readonly [metric: string, title: string]>> = {
  cola: ['matthewsCorrelation', 'CoLA, Matthews'],
  stsb: ['spearman', 'STS-B, Spearman'],
  sst2: ['accuracy', 'SST-2, accuracy'],
  mrpc: ['f1', 'MRPC, F1'],
  rte: ['accuracy', 'RTE, accuracy'],
};

/** A method on a task. */
interface Cell {
  readonly title: string;
  readonly published: { readonly mean: number; readonly sd: number | undefined };
  /** The score of each seed. */
  readonly ours: readonly { readonly score: number; readonly learnt: boolean }[];
}

/** Returns the cells that a run has trials for, in the order of the tables above. */
function cellsOf(trials: readonly TrialResult[]): Cell[] {
  return Object.entries(PUBLISHED).flatMap(([method, byTask]) =>
    Object.entries(TASKS).flatMap(([task, [metric, title]]) => {
      const own = trials
        .filter((trial): trial is DoneTrial => trial.status === 'done' && trial.arm === method && trial.task === task)
        .sort((a, b) => a.seed - b.seed);
      const [center, sd] = byTask[task] as readonly [number, number?];
      const ours = own.map(({ metrics, rows }) => ({
        score: metrics[metric] as number,
        learnt: new Set(rows?.predicted).size !== 1,
      }));
      const published = { mean: center / 100, sd: sd === undefined ? sd : sd / 100 };
      return ours.length === 0 ? [] : [{ title: `${METHODS[method] ?? method}: ${title}`, published, ours }];
    }),
  );
}

/** The first table of the page. A seed that answers one class is bold, and left out in a second row. */
export function reproductionTable(trials: readonly TrialResult[]): string {
  const rows = cellsOf(trials).flatMap(({ title, published, ours }) => {
    const learnt = ours.filter((each) => each.learnt);
    const seeds = ours.map(({ score, learnt: isOne }) => (isOne ? score.toFixed(3) : `**${score.toFixed(3)}**`));
    const row = [title, spread(published.mean, published.sd), spreadOf(ours), seeds.join(', ')];
    return learnt.length === ours.length
      ? [row]
      : [row, ['without the seed that answers one class', '', spreadOf(learnt), '']];
  });
  return markdownTable(['', 'published, mean (sd)', 'ours, mean (sd)', 'seeds'], rows);
}

function spreadOf(seeds: Cell['ours']): string {
  const scores = seeds.map(({ score }) => score);
  return spread(mean(scores), scores.length > 1 ? sampleStandardDeviation(scores) : undefined);
}

function spread(center: number, sd: number | undefined): string {
  return `${center.toFixed(3)}${sd === undefined ? '' : ` (${sd.toFixed(3)})`}`;
}

/** The chart of the page. */
export function reproductionChart(trials: readonly TrialResult[]): string {
  const rows = cellsOf(trials).map(({ title, published, ours }) => ({
    label: title,
    reference: published,
    dots: ours.map(({ score }) => score),
  }));
  return dotChart({ reference: 'published, mean ± deviation', dots: 'our seeds', rows });
}
