import type { TrialResult } from '../../results/schema.js';
import { formatMetric, formatSmall } from '../format.js';
import type { Markup } from '../html.js';
import { digits, imageOf, textAt } from './draw.js';

/** The size of one chart in px: three fit side by side on a desktop screen. */
const SIZE = { width: 380, height: 150 };
/** Margins in px: for numbers at the left and bottom, and for circles at the other sides. */
const MARGIN = { left: 52, right: 16, top: 12, bottom: 26 };

/** The learning rates that were tried for an arm. */
interface TunedArm extends NonNullable<TrialResult['tuning']> {
  /** The arm's label. */
  readonly label: string;
}

/**
 * Draws the score of every learning rate of an arm, from the smallest rate. The chosen rate has a large circle; rates
 * tied with the best one are filled; a failed rate is a cross. The dashed line is at the best score. The bar at a rate
 * is one standard error of its difference to the best, so a rate whose bar reaches the line may be as good.
 */
export function tuningChart(arm: TunedArm): Markup {
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
function described({ label, tried, chosen }: TunedArm): string {
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
