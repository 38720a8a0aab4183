import { type EvaluationData, ShapeError } from '@peftjs/core';
import { batchesByLength, type BatchOptions } from './batches.js';
import { checkPositive, type EncodedData } from './encode.js';
import { metricsFor, type MetricSet } from './metric-set.js';

/** How rows are judged. */
export interface EvaluationOptions extends BatchOptions {
  /** Default: `metricsFor` the kind of the data. */
  readonly metrics?: MetricSet | undefined;
}

/**
 * Batches to judge a model by, from the shortest rows to the longest, the same ones at every call. `score` takes the outputs row
 * after row as in the data set: a batch says by `rows` which ones it holds.
 * @throws ConfigError for an impossible option.
 */
export function evaluationData(data: EncodedData, options: EvaluationOptions): EvaluationData {
  const { metrics = metricsFor(data.kind) } = options;
  checkPositive('batchSize', options.batchSize);
  const actual = data.rows.map(({ label }) => label);
  return {
    batches: batchesByLength(data.rows.keys(), data, options),
    primaryMetric: metrics.primary,
    score(outputs) {
      if (outputs.length !== actual.length) {
        throw new ShapeError(`${data.name}: expected the outputs of ${actual.length} rows, got ${outputs.length}`);
      }
      const predicted = outputs.map(data.kind === 'classification' ? strongest : first);
      const scores = Object.entries(metrics.metrics).map(
        ([name, metric]) => [name, metric(predicted, actual)] as const,
      );
      return Object.fromEntries(scores);
    },
  };
}

/** The class with the largest logit, the lower one of equals; -1, which is never right, if no logit is a number. */
function strongest(logits: Float32Array): number {
  let best = -1;
  logits.forEach((logit, index) => {
    if (logit > (best === -1 ? -Infinity : (logits[best] as number))) best = index;
  });
  return best;
}

function first(outputs: Float32Array): number {
  return outputs[0] ?? NaN;
}
