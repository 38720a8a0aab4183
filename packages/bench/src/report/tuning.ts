import type { TrialResult, TrialTuning } from '@peftjs/cli/results';
import { cell, details, figure, grid, heading, note, table, type Block, type Column } from './blocks.js';
import { layered, layerFrom, plain, quantity, type Chart } from './charts/draw.js';
import { formatMetric, formatSmall } from '@peftjs/cli/format';
import { by, grouped } from './statistics/comparisons.js';

/** The tuning of an arm, with the tasks that it was for. */
export interface TunedRow extends TrialTuning {
  /** The name of the arm. */
  readonly label: string;
  /** The tasks. */
  readonly tasks: readonly string[];
}

/** The tuning of every arm, each distinct one once; empty if nothing was tuned. */
export function tunedRows(results: readonly TrialResult[]): TunedRow[] {
  const tuned = results.flatMap(({ arm, task, tuning }) => (tuning ? [{ arm, task, tuning }] : []));
  return grouped(tuned, ({ arm, tuning }) => [arm, tuning])
    .map((same) => ({ label: same[0].arm, tasks: [...new Set(same.map(({ task }) => task))], ...same[0].tuning }))
    .sort(by(({ label }) => label));
}

/** Whether other rates were tied with the best one, so that the middle one was chosen. */
function isByNoise({ tied = [] }: TunedRow): boolean {
  return tied.length > 1;
}

/** The choice, in words. */
function choiceOf(row: TunedRow): string {
  if (row.chosen === null)
    return row.tried.some(({ score }) => score !== null) ? 'none: a process died' : 'none: every one failed';
  const chosen = formatSmall(row.chosen);
  const { length } = row.tied ?? [];
  return isByNoise(row)
    ? `${chosen}, the ${length === 2 ? 'lower' : 'middle'} of ${length} that differ by no more than noise`
    : chosen;
}

/** Whether another rate may be as good as the best one for all that is known: one seed has no standard error. */
function isOfOneSeed({ tried }: TunedRow): boolean {
  const scored = tried.filter(({ score }) => score !== null);
  return scored.filter(({ standardError }) => standardError === null).length > 1; // the best rate has none either
}

/** Sentences on the choices that noise decided or may have; empty for older files without that information. */
export function noiseNote(all: readonly TunedRow[]): string[] {
  const rows = all.filter(({ tied, chosen }) => tied !== undefined && chosen !== null);
  if (rows.length === 0) return [];
  if (rows.some(isOfOneSeed)) return ['How much noise there is in the scores is unknown, with one tuning seed.'];
  if (!rows.some(isByNoise))
    return ['Noise decided no choice: every best rate is better than the others by more than one standard error.'];
  const { length } = rows.filter(isByNoise);
  return [
    `Noise decided ${length === rows.length ? 'every choice' : `${length} of ${rows.length} choices`}: there the best rate is no more than ` +
      'one standard error better than others, paired over seeds and rows, and the middle one of these was chosen.',
  ];
}

/** The section on the learning rates that were tried for each arm, and the chosen ones; empty if nothing was tuned. */
export function tuningBlocks(results: readonly TrialResult[]): Block[] {
  const rows = tunedRows(results);
  if (rows.length === 0) return [];
  const charts = rows.map((row) =>
    figure(row.label, `${row.tasks.join(', ')}: ${choiceOf(row)}`, () => tuningChart(row)),
  );
  return [
    heading('Learning rates tried'),
    note('As many for every arm, scored on the rows that select, with seeds of their own.'),
    note(
      'The large circle is the one that was chosen, full ones may be as good as the best: their bar, one standard error of the difference to it, reaches the line at its score.',
      'page',
    ),
    ...noiseNote(rows).map((sentence) => note(sentence)),
    grid(charts, 'grid small'),
    details('Every score', [table(columnsOf(rows), rows, 'matrix')]),
  ];
}

/** A column for each learning rate of the grids, from the smallest; empty in the rows of arms whose grid lacks it. */
function columnsOf(rows: readonly TunedRow[]): Column<TunedRow>[] {
  const rates = new Set(rows.flatMap(({ tried }) => tried.map(({ learningRate }) => learningRate)));
  const ofRates = [...rates]
    .sort((a, b) => a - b)
    .map((rate): Column<TunedRow> => ({
      title: formatSmall(rate),
      cell: ({ tried, chosen }) => {
        const found = tried.find(({ learningRate }) => learningRate === rate);
        const text = found ? (found.score === null ? 'failed' : formatMetric(found.score)) : '';
        return { ...cell(text), look: rate === chosen ? 'chosen' : 'tried' };
      },
    }));
  return [
    { title: '', cell: ({ label, tasks }) => cell(label, tasks.join(', ')) },
    ...ofRates,
    { title: 'chosen', cell: (row) => cell(choiceOf(row)) },
  ];
}

/** The size of one chart in px: three fit side by side on a desktop screen. */
const SIZE = { width: 380, height: 150 };

/**
 * The score of every learning rate of an arm, from the smallest rate. The chosen rate has a large circle; rates tied with
 * the best one are filled; a failed rate is a cross. The dashed line is at the best score. The bar at a rate is one
 * standard error of its difference to the best, so a rate whose bar reaches the line may be as good.
 */
function tuningChart({ label, tried, tied = [], chosen }: TunedRow): Chart {
  const points = tried.flatMap(({ learningRate, score, standardError }) => {
    if (score === null) return [];
    const isFull = tied.includes(learningRate) || learningRate === chosen;
    const look = { size: learningRate === chosen ? 130 : 45, fill: isFull ? 'var(--strong)' : 'var(--paper)' };
    const error = standardError ?? 0;
    return { rate: formatSmall(learningRate), score, low: score - error, high: score + error, ...look };
  });
  const best = tried.filter(({ score, standardError }) => score !== null && standardError === null).slice(0, 1);
  const failed = tried.filter(({ score }) => score === null);
  const rates = tried.map(({ learningRate }) => formatSmall(learningRate));
  const scores = tried.map(({ score }, at) => `${rates[at] ?? ''} ${score === null ? 'failed' : formatMetric(score)}`);
  const x = { field: 'rate', type: 'ordinal', title: null, scale: { domain: rates }, axis: { labelAngle: 0 } };
  const y = quantity('score', { title: null, scale: { zero: false }, axis: { tickCount: 3 } });
  const ink = { color: 'var(--strong)', opacity: 1 };
  const layers = [
    layerFrom(
      best.map(({ score }) => ({ score })),
      { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
      { x: { value: 0 }, x2: { value: 'width' } },
    ),
    { mark: { ...ink, type: 'line', opacity: 0.5, strokeWidth: 1 } },
    { mark: { ...ink, type: 'rule', strokeWidth: 1.5 }, encoding: { y: quantity('low'), y2: { field: 'high' } } },
    {
      mark: { ...ink, type: 'point', shape: 'circle', strokeWidth: 1.5 },
      encoding: { size: plain('size', 'quantitative'), fill: plain('fill') },
    },
    layerFrom(
      failed.map(({ learningRate }) => ({ rate: formatSmall(learningRate) })),
      { type: 'text', text: '×', color: 'var(--bad)', dy: -8, fontSize: 18 },
      { y: { value: 'height' } },
    ),
  ];
  return {
    description: `${label} by learning rate: ${scores.join(', ')}; chosen ${chosen === null ? 'none' : formatSmall(chosen)}`,
    spec: layered(SIZE, { x, y }, layers, { values: points }),
  };
}
