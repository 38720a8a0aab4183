import type { TrialResult } from '../results/schema.js';
import { grouped } from '../statistics/arms.js';
import { formatMetric, formatSmall } from './format.js';

/** What tuning tried for an arm, and the tasks that its choice was for. */
export interface TunedRow extends NonNullable<TrialResult['tuning']> {
  readonly label: string;
  readonly tasks: readonly string[];
}

/** Every choice of a learning rate once, by arm; none where none was tuned. */
export function tunedRows(results: readonly TrialResult[]): TunedRow[] {
  const tuned = results.flatMap(({ arm, task, tuning }) => (tuning ? [{ arm, task, tuning }] : []));
  return grouped(tuned, ({ arm, tuning }) => [arm, tuning])
    .map((same) => ({ label: same[0].arm, tasks: [...new Set(same.map(({ task }) => task))], ...same[0].tuning }))
    .sort((a, b) => a.label.localeCompare(b.label, 'en'));
}

/** The learning rates of all grids, from the smallest. */
export function ratesOf(rows: readonly TunedRow[]): number[] {
  const rates = new Set(rows.flatMap(({ tried }) => tried.map(({ learningRate }) => learningRate)));
  return [...rates].sort((a, b) => a - b);
}

/** What a learning rate scored on the selection rows; nothing where it is not in the arm's grid. */
export function scoreOf({ tried }: TunedRow, rate: number): string {
  const found = tried.find(({ learningRate }) => learningRate === rate);
  if (!found) return '';
  return found.score === null ? 'failed' : formatMetric(found.score);
}

/** The choice, in words. */
export function choiceOf({ chosen }: TunedRow): string {
  return chosen === null ? 'none: every one failed' : formatSmall(chosen);
}
