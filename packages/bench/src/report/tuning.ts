import type { TrialResult, TrialTuning } from '@peftjs/cli/results';
import { cell, details, figure, grid, heading, note, table, type Block, type Column } from './blocks.js';
import { digits, imageOf, textAt } from './charts/draw.js';
import { formatMetric, formatSmall } from '@peftjs/cli/format';
import type { Markup } from './html.js';
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
/** Margins in px: for numbers at the left and bottom, and for circles at the other sides. */
const MARGIN = { left: 52, right: 16, top: 12, bottom: 26 };

/**
 * Draws the score of every learning rate of an arm, from the smallest rate. The chosen rate has a large circle; rates
 * tied with the best one are filled; a failed rate is a cross. The dashed line is at the best score. The bar at a rate
 * is one standard error of its difference to the best, so a rate whose bar reaches the line may be as good.
 */
function tuningChart(arm: TunedRow): Markup {
  const { tried, tied = [], chosen } = arm;
  const scored = tried.flatMap(({ score, standardError }) =>
    score === null ? [] : [{ score, error: standardError ?? 0 }],
  );
  const x = (index: number): number =>
    MARGIN.left + ((SIZE.width - MARGIN.left - MARGIN.right) * (index + 0.5)) / tried.length;
  const y = scale(scored);
  const best = tried.find(({ score, standardError }) => score !== null && standardError === null)?.score ?? null;
  const points = tried.map(({ learningRate, score, standardError }, index) => {
    const at = x(index);
    const rate = textAt(at, SIZE.height - 6, formatSmall(learningRate), 'middle');
    if (score === null) return `${crossAt(at, SIZE.height - MARGIN.bottom - 8)}${rate}`;
    const isTied = tied.includes(learningRate) || learningRate === chosen;
    return `${errorBar(at, score, standardError ?? 0, y)}${circle(at, y(score), learningRate === chosen ? 6 : 3.5, isTied)}${rate}`;
  });
  const curve = tried.flatMap(({ score }, index) =>
    score === null ? [] : [`${digits(x(index))},${digits(y(score))}`],
  );
  const parts = [
    ...ticks(scored.map(({ score }) => score)).map((score) =>
      textAt(MARGIN.left - 8, y(score) + 4, formatMetric(score), 'end'),
    ),
    ...(best === null
      ? []
      : [
          `<path d="M${MARGIN.left},${digits(y(best))}H${SIZE.width - MARGIN.right}" stroke="var(--soft)" stroke-dasharray="3 3"/>`,
        ]),
    ...(curve.length > 1
      ? [`<path d="M${curve.join('L')}" stroke="var(--strong)" stroke-opacity=".5" fill="none"/>`]
      : []),
    ...points,
  ];
  return imageOf(described(arm), SIZE, parts);
}

/** The chart in words. */
function described({ label, tried, chosen }: TunedRow): string {
  const scores = tried.map(
    ({ learningRate, score }) => `${formatSmall(learningRate)} ${score === null ? 'failed' : formatMetric(score)}`,
  );
  return `${label} by learning rate: ${scores.join(', ')}; chosen ${chosen === null ? 'none' : formatSmall(chosen)}`;
}

/** Returns a function from a score to its position, in px from the top. */
function scale(scored: readonly { readonly score: number; readonly error: number }[]): (score: number) => number {
  const low = Math.min(...scored.map(({ score, error }) => score - error));
  const high = Math.max(...scored.map(({ score, error }) => score + error));
  const span = SIZE.height - MARGIN.top - MARGIN.bottom - 8;
  if (!(high > low)) return () => MARGIN.top + span / 2;
  return (score) => MARGIN.top + span * ((high - score) / (high - low));
}

/** The best and the worst score, or the only one. */
function ticks(scores: readonly number[]): number[] {
  if (scores.length === 0) return [];
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  return formatMetric(low) === formatMetric(high) ? [high] : [low, high];
}

function errorBar(x: number, score: number, error: number, y: (score: number) => number): string {
  if (error === 0) return '';
  return `<path d="M${digits(x)},${digits(y(score - error))}V${digits(y(score + error))}" stroke="var(--strong)" stroke-width="1.5"/>`;
}

function circle(x: number, y: number, radius: number, isFull: boolean): string {
  const fill = isFull ? 'var(--strong)' : 'var(--paper)';
  return `<circle cx="${digits(x)}" cy="${digits(y)}" r="${radius}" fill="${fill}" stroke="var(--strong)" stroke-width="1.5"/>`;
}

function crossAt(x: number, y: number): string {
  return `<path d="M${digits(x - 4)},${y - 4}l8,8m0,-8l-8,8" stroke="var(--bad)" stroke-width="2"/>`;
}
