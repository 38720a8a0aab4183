import { mean } from 'simple-statistics';
import type { DoneTrial, SparsityStage } from '../results/schema.js';
import { colorScale, dashScale, HEIGHT, legend, renderChart, WIDTH, type Chart } from './charts/draw.js';
import { bySeries, type Cell, type Panel, type Series } from './contents.js';
import { formatCount, formatInterval, formatMetric, formatShare, formatSmall } from './format.js';
import { html, name, type Markup } from './html.js';
import { drawnAs } from './palette.js';
import { estimate, type Estimate } from './statistics/estimates.js';

/** The results of one stage of the sparsifying schedule, over the seeds of an arm. */
export interface StageSummary {
  /** The stage, from 0. */
  readonly stage: number;
  /** The level of the method's sparsity. */
  readonly level: number;
  /** The number of seeds. */
  readonly seeds: number;
  /** The share of gates that is zero or removed, averaged over seeds. */
  readonly sparsity: number;
  /** Stored parameters, averaged over seeds. */
  readonly storedParameters: number;
  /** The primary metric on a sample of the training rows, averaged over seeds. */
  readonly trainMetric: number;
  /** The primary metric on the reported rows, averaged over seeds. */
  readonly devMetric: number;
  /** The training metric in percent of the first stage's, over seeds with a finite value; null if none has one. */
  readonly memorization: Estimate | null;
  /** The reported metric in percent of the first stage's, over seeds with a finite value; null if none has one. */
  readonly generalization: Estimate | null;
}

/** Summarises the stages of trials that differ only in their seed; empty for trials without stages. */
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
    return values.includes(Infinity) ? Infinity : mean(values); // simple-statistics' compensated sum would turn Infinity into NaN
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

/** The stages of an arm as a table, the same in the page and in Markdown. */
export interface StageTable {
  /** The headings. */
  readonly titles: readonly string[];
  /** The cells, row by row. */
  readonly rows: readonly (readonly Cell[])[];
}

/** The table of stages, with one row per stage; `metric` is the primary one. */
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

/** What remains after the last stage, in a sentence. */
export function lastStageSentence(stages: readonly StageSummary[]): string {
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

/** The curve of memorization, with its look in every chart. */
export const MEMORIZATION: Series = { label: 'memorization', look: { hue: 1, shape: 0 } };
/** The curve of generalization, with its look in every chart. */
export const GENERALIZATION: Series = { label: 'generalization', look: { hue: 2, shape: 1 } };

/** The curves of the chart. */
const STAGE_SERIES: readonly Series[] = [MEMORIZATION, GENERALIZATION];

/** A point of a curve. */
interface Point {
  readonly series: string;
  readonly stored: number;
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Memorization and generalization, in percent of the first stage, against stored parameters, which decrease from left
 * to right.
 */
function stageChart(title: string, stages: readonly StageSummary[]): Chart {
  const points = stages.flatMap((stage) => [
    ...pointOf(MEMORIZATION, stage, stage.memorization),
    ...pointOf(GENERALIZATION, stage, stage.generalization),
  ]);
  const most = Math.max(1, ...stages.map(({ storedParameters }) => storedParameters));
  return {
    description: `Memorization and generalization in percent of the first stage against stored parameters: ${title}`,
    spec: {
      width: WIDTH,
      height: HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      data: { values: points },
      encoding: {
        x: {
          field: 'stored',
          type: 'quantitative',
          title: 'stored parameters',
          scale: { domain: [0, 1.03 * most], reverse: true, nice: false },
          axis: { format: '.3~s' },
        },
        y: { type: 'quantitative', title: '% of the first stage', scale: { domain: rangeOf(points), nice: false } },
      },
      layer: [wholeLayer(), bandLayer(), lineLayer(), ...STAGE_SERIES.map(pointLayer)],
    } as Chart['spec'],
  };
}

function pointOf(
  { label }: Series,
  { storedParameters: stored }: StageSummary,
  value: StageSummary['memorization'],
): Point[] {
  if (!value) return [];
  const { mean, interval } = value;
  return [{ series: label, stored, mean, low: interval?.low ?? mean, high: interval?.high ?? mean }];
}

/** A range that holds all curves, and is wide enough that noise does not look like a drop. */
function rangeOf(points: readonly Point[]): [number, number] {
  const low = Math.min(90, ...points.map((point) => point.low));
  const high = Math.max(102, ...points.map((point) => point.high));
  const room = 0.04 * (high - low);
  return [low - room, high + room];
}

/** A line at 100 %, the first stage. */
function wholeLayer(): object {
  return {
    data: { values: [{ mean: 100 }] },
    mark: { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
    encoding: { y: { field: 'mean', type: 'quantitative' }, x: { value: 0 }, x2: { value: 'width' } },
  };
}

function bandLayer(): object {
  return {
    mark: { type: 'area', opacity: 0.16 },
    encoding: { y: { field: 'low', type: 'quantitative' }, y2: { field: 'high' }, color: colorOf() },
  };
}

function lineLayer(): object {
  return {
    mark: { type: 'line', strokeWidth: 2, strokeJoin: 'round' },
    encoding: {
      y: { field: 'mean', type: 'quantitative' },
      color: colorOf(),
      strokeDash: { field: 'series', type: 'nominal', scale: dashScale(STAGE_SERIES), legend: null },
    },
  };
}

function pointLayer(series: Series): object {
  const { color, outline } = drawnAs(series.look);
  return {
    transform: [{ filter: { field: 'series', equal: series.label } }],
    mark: { type: 'point', filled: true, opacity: 1, size: 46, color, shape: outline },
    encoding: { y: { field: 'mean', type: 'quantitative' } },
  };
}

function colorOf(): object {
  return { field: 'series', type: 'nominal', scale: colorScale(STAGE_SERIES), legend: null };
}

/** Figures of every arm in stages: memorization and generalization as its ranks are pruned. */
export async function stageFigures(panel: Panel): Promise<Markup[]> {
  const staged = bySeries(panel.entries).flatMap(({ row, trials }) => {
    const stages = stageSummaries(trials);
    return stages.length === 0 ? [] : [{ label: row.label, stages }];
  });
  return Promise.all(staged.map(({ label, stages }) => stageFigure(panel, label, stages)));
}

async function stageFigure(panel: Panel, label: string, stages: readonly StageSummary[]): Promise<Markup> {
  const { titles, rows } = stageTable(stages, panel.metric);
  return html`<figure class="wide">
    <figcaption>
      <strong>Memorization and generalization: ${name(label)}</strong><span>${captionOf(stages)}</span>
    </figcaption>
    <div class="beside">
      <div>${legend(STAGE_SERIES)}${await renderChart(stageChart(`${label} on ${panel.title}`, stages))}</div>
      <div class="scroll">
        <table class="stages">
          <thead>
            <tr>
              ${titles.map((title) => html`<th scope="col">${name(title)}</th>`)}
            </tr>
          </thead>
          <tbody>
            ${rows.map(
              (cells) =>
                html`<tr>
                  ${cells.map(
                    ({ main, detail }) =>
                      html`<td>${name(main)}${detail === undefined ? null : html`<small>${detail}</small>`}</td>`,
                  )}
                </tr>`,
            )}
          </tbody>
        </table>
      </div>
    </div>
  </figure>`;
}

function captionOf(stages: readonly StageSummary[]): string {
  const seeds = Math.max(...stages.map((stage) => stage.seeds));
  const spread = seeds > 1 ? `, mean over ${seeds} seeds with its 95 % interval` : ', one seed';
  return `What it still knows of training rows and of the reported ones, in percent of the first stage${spread}. ${lastStageSentence(stages)}`;
}
