import type { DoneTrial, HistoryRow } from '@peftjs/cli/results';
import { seriesOfEntries, type BudgetGroup, type Entry, type Series } from '../contents.js';
import { formatCount } from '@peftjs/cli/format';
import { colorBy, dashBy, HEIGHT, layered, layerFrom, quantity, WIDTH, type Chart } from './draw.js';

const BINS = 48;
/** With more series than this, their bands would hide one another. */
const MAX_BANDS = 5;

/** A point of a curve over several seeds. */
export interface CurvePoint {
  /** The step. */
  readonly step: number;
  /** The mean over seeds. */
  readonly mean: number;
  /** The lowest value of a seed. */
  readonly low: number;
  /** The highest value of a seed. */
  readonly high: number;
}

/** The training loss over steps. */
export function lossChart(title: string, entries: readonly Entry[]): Chart {
  return curveChart(`Training loss on ${title}`, 'training loss', entries, (row) => row.loss);
}

/** The primary metric on the selection split over steps. */
export function metricChart(title: string, entries: readonly Entry[]): Chart {
  const metric = entries[0]?.row.metric ?? '';
  const direction = entries[0]?.row.lowerIsBetter ? ', less is better' : '';
  return curveChart(
    `${metric} on the selection split of ${title}`,
    `${metric}, selection split${direction}`,
    entries,
    (row) => row.metrics?.[metric],
  );
}

/** Stored parameters over steps, with the budget as a line. */
export function parameterChart(title: string, entries: readonly Entry[], group: BudgetGroup): Chart {
  const requested = group.matchedOn === 'stored' ? group.requested : null;
  const series = seriesOfEntries(entries);
  const most = Math.max(
    requested ?? 1,
    ...entries.flatMap(({ trials }) => trials.map(({ history }) => Math.max(...history.map(({ stored }) => stored)))),
  );
  return {
    description: `Stored parameters over training steps on ${title}`,
    spec: framed('stored parameters', { domain: [0, 1.08 * most], nice: false }, { format: '.3~s' }, [
      ...(requested === null ? [] : budgetLayers(requested)),
      lineLayer(entries, series, (row) => row.stored, 'step-after'),
    ]),
  };
}

/** Whether the curves of these series show the range of their seeds. */
export function hasBands(series: readonly Series[]): boolean {
  return series.length <= MAX_BANDS;
}

/** The mean and range over seeds, in at most 48 points, each averaging a seed's rows. Infinite values are left out. */
export function seedCurve(trials: readonly DoneTrial[], pick: (row: HistoryRow) => number | undefined): CurvePoint[] {
  const last = Math.max(1, ...trials.map(({ history }) => history.at(-1)?.step ?? 0));
  return Array.from({ length: BINS }, (_, bin) => {
    const inBin = trials.map(({ history }) =>
      history.filter(({ step }) => Math.ceil((step / last) * BINS) - 1 === bin),
    );
    const means = inBin.flatMap((rows) => mean(rows.map((row) => pick(row)).filter(isFinite)));
    const step = Math.max(...inBin.flat().map((row) => row.step));
    return mean(means).map((value) => ({ step, mean: value, low: Math.min(...means), high: Math.max(...means) }));
  }).flat();
}

function curveChart(
  description: string,
  title: string,
  entries: readonly Entry[],
  pick: (row: HistoryRow) => number | undefined,
): Chart {
  const series = seriesOfEntries(entries);
  const band = layerFrom(
    pointsOf(entries, pick),
    { type: 'area', opacity: 0.16 },
    { y: quantity('low'), y2: { field: 'high' }, color: colorBy(series) },
  );
  const layers = [...(hasBands(series) ? [band] : []), lineLayer(entries, series, pick, 'linear')];
  return { description: `${description}, mean over seeds`, spec: framed(title, { zero: false }, {}, layers) };
}

function framed(title: string, scale: object, axis: object, layers: readonly object[]): Chart['spec'] {
  const x = quantity('step', { title: 'step', scale: { nice: false, zero: true } });
  return layered({ width: WIDTH, height: HEIGHT }, { x, y: { type: 'quantitative', title, scale, axis } }, layers);
}

function lineLayer(
  entries: readonly Entry[],
  series: readonly Series[],
  pick: (row: HistoryRow) => number | undefined,
  interpolate: string,
): object {
  return layerFrom(
    pointsOf(entries, pick),
    { type: 'line', strokeWidth: 2, interpolate, strokeJoin: 'round' },
    { y: quantity('mean'), color: colorBy(series), strokeDash: dashBy(series) },
  );
}

function budgetLayers(requested: number): object[] {
  const values = [{ mean: requested, text: `budget ${formatCount(requested)}` }];
  const y = quantity('mean');
  return [
    layerFrom(
      values,
      { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
      { y, x: { value: 0 }, x2: { value: 'width' } },
    ),
    layerFrom(
      values,
      { type: 'text', color: 'var(--soft)', align: 'left', baseline: 'top', dx: 4, dy: 6 },
      { x: { value: 0 }, y, text: { field: 'text' } },
    ),
  ];
}

function pointsOf(entries: readonly Entry[], pick: (row: HistoryRow) => number | undefined): object[] {
  return entries.flatMap(({ series, trials }) =>
    seedCurve(trials, pick).map((point) => ({ series: series.label, ...point })),
  );
}

function isFinite(value: number | undefined): value is number {
  return Number.isFinite(value);
}

/** The mean of some values as an array; empty if there are none. */
function mean(values: readonly number[]): number[] {
  return values.length === 0 ? [] : [values.reduce((sum, value) => sum + value, 0) / values.length];
}
