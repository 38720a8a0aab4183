import { integerFrom } from '@peftjs/core/method';
import * as v from 'valibot';

/** How a model's outputs become scores. */
export type ScoreFunction = 'softmax' | 'sigmoid' | 'none';

/** The options of calls that return the best of several scores. */
export const scoreEntries = {
  topK: v.optional(v.nullable(integerFrom(1))),
  functionToApply: v.optional(v.picklist(['softmax', 'sigmoid', 'none'] satisfies ScoreFunction[])),
};

/** Returns the scores of one text's outputs. A softmax is of the outputs divided by the temperature. */
export function scoresOf(outputs: ArrayLike<number>, scoring: ScoreFunction, temperature = 1): number[] {
  const values = Array.from(outputs);
  if (scoring === 'none') return values;
  return scoring === 'sigmoid' ? values.map(sigmoid) : softmax(values.map((value) => value / temperature));
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

function softmax(values: readonly number[]): number[] {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** Returns the indices of scores from highest to lowest; equal scores keep their order. */
export function descendingOrder(scores: readonly number[]): number[] {
  return [...scores.keys()].sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
}

/** Returns the index of the highest score; the first one if equal. */
export function argMax(scores: readonly number[]): number {
  return scores.indexOf(Math.max(...scores));
}
