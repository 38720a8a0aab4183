/*
 * Temperature scaling (Guo et al., 2017, section 4.2): the probability of class k is softmax(z / T)_k, with one T > 0 for
 * all rows. T minimises the negative log-likelihood of held-out rows with logits z and classes y, which is convex in
 * b = 1 / T:
 *
 *   NLL(b) = sum over rows of log sum_k exp(b z_k) - b z_y,    NLL'(b) = sum over rows of E_softmax(b z)[z] - z_y
 *
 * NLL' rises from sum(mean(z) - z_y) at b = 0 to sum(max(z) - z_y) as b grows, so there is a minimum, and one only,
 * where the first is negative and the second positive.
 */
import { activeAdapter, aPeftModel, replaceAdapter, type PeftModel } from '../adapter/peft-model.js';
import { assertArgument, parseOptions } from '../config.js';
import type { EvaluationData } from '../contracts/model.js';
import { ConfigError, DataError } from '../errors.js';
import { hasOneClass } from '../head.js';
import { someEvaluationData } from '../kinds.js';
import { evaluateEntries, predict, type EvaluateOptions } from './evaluate.js';
import { assertLabels } from './labels.js';

/**
 * Fits the temperature that makes the scores of a classifier probabilities, on rows that it was not trained on, and
 * gives it to the first active adapter, in place. The adapter is saved with it; pipelines and `evaluate` divide logits
 * by it, which changes no predicted class. It is lost when the adapter is trained further, merged, or given other
 * values.
 * @returns the temperature; above 1, the scores were too close to 0 and 1
 * @throws ConfigError unless the model gives each row one of several classes.
 * @throws DataError when no temperature is best: all rows are classified right, or the logits are no better than none.
 */
export async function fitTemperature(peft: PeftModel, data: EvaluationData, options: EvaluateOptions): Promise<number> {
  assertArgument('peft', peft, aPeftModel);
  assertArgument('data', data, someEvaluationData);
  parseOptions('fitTemperature', evaluateEntries, options);
  const { model } = peft;
  if (!hasOneClass(model, activeAdapter(peft).problemType) || !data.predictions) {
    throw new ConfigError('fitTemperature: expected a classifier and data with one of several classes per row', 'data');
  }
  assertLabels(model, data.batches, 'classification');
  const logits = await predict(peft, data.batches, options);
  const temperature = bestTemperature(logits, data.predictions(logits).actual as readonly number[]);
  replaceAdapter(peft, { temperature });
  return temperature;
}

/** The largest error of 1 / T, relative to it. */
const PRECISION = 1e-12;

/**
 * Returns the temperature that minimises the negative log-likelihood of these rows' classes.
 * @throws DataError when there is none.
 */
export function bestTemperature(logits: readonly ArrayLike<number>[], actual: readonly number[]): number {
  const slope = (b: number): number =>
    logits.reduce((sum, row, index) => sum + expected(row, b) - (row[actual[index] as number] as number), 0);
  if (slope(Infinity) === 0) {
    throw new DataError(
      `all ${logits.length} held-out rows are classified right, so no temperature is best: hold out more`,
    );
  }
  if (!(slope(0) < 0)) {
    throw new DataError(
      `on the ${logits.length} held-out rows the logits say nothing of the classes: train longer first`,
    );
  }
  let [low, high] = [0, 1];
  while (slope(high) < 0) [low, high] = [high, 2 * high];
  while (high - low > PRECISION * high) {
    const middle = (low + high) / 2;
    if (slope(middle) < 0) low = middle;
    else high = middle;
  }
  return 2 / (low + high);
}

/** The mean logit of a row under softmax(b z); the largest for an infinite b. */
function expected(row: ArrayLike<number>, b: number): number {
  const logits = Array.from(row);
  const largest = Math.max(...logits);
  if (b === Infinity) return largest;
  let [sum, total] = [0, 0];
  for (const logit of logits) {
    const weight = Math.exp(b * (logit - largest));
    sum += weight * logit;
    total += weight;
  }
  return sum / total;
}
