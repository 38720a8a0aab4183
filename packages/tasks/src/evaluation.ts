import type { Batch, EvaluationData } from '@peftjs/core';
import { assertArgument, type RowValue } from '@peftjs/core/model';
import { mapValues, parseOptions, ShapeError } from '@peftjs/core/method';
import { batchEntries, type BatchOptions, batchesByLength, encodedRows, paddedLengths } from './batches.js';
import type { LabelKind, TaskKind } from './data-set.js';
import { type Judged, nearestTexts, textCosines } from './embedding-evaluation.js';
import { type EncodedData, type EncodedRow } from './encode.js';
import { type MetricSet, metricsFor } from './task.js';

/** Options of {@link evaluationData}. */
export interface EvaluationOptions extends BatchOptions {
  /** The metrics. Default: `metricsFor` the kind of the data and its classes. */
  readonly metrics?: MetricSet<never> | undefined;
}

/** Labelled batches to evaluate a model on. */
export interface LabelledEvaluation extends EvaluationData {
  /** The batches. */
  readonly batches: readonly Batch[];
}

/** Kinds whose rows are labelled texts rather than texts to embed. */
type LabelledKind = LabelKind | 'multi-label' | 'token-classification';

/**
 * Creates batches to evaluate a model on, from the shortest rows to the longest, the same at every call. `score` takes
 * the outputs in the order of the data set's rows; a batch's `rows` gives the numbers of its rows. For pairs, triplets
 * and scored pairs, these are not the rows of the data set but its distinct texts, in order of appearance. Each anchor
 * of pairs and triplets must find its positives among all positives and negatives.
 * @throws ConfigError for an impossible option.
 */
export function evaluationData(data: EncodedData<LabelledKind>, options: EvaluationOptions): LabelledEvaluation;
/** The same for data of any kind; batches of pairs, triplets and scored pairs have no labels. */
export function evaluationData(data: EncodedData, options: EvaluationOptions): EvaluationData;
export function evaluationData(data: EncodedData, options: EvaluationOptions): EvaluationData {
  assertArgument('data', data, encodedRows);
  parseOptions('evaluationData', batchEntries, options);
  const { metrics = metricsFor(data.kind, data.classes) } = options;
  const { predicted, actual, ...computed } = judged(data, options);
  const expected = computed.batches.reduce((sum, { rows }) => sum + rows.length, 0);
  const predictionsOf = (outputs: readonly Float32Array[]): readonly RowValue[] => {
    if (outputs.length === expected) return predicted(outputs);
    throw new ShapeError(`${data.name}: expected the outputs of ${expected} rows, got ${outputs.length}`);
  };
  const scored = (of: readonly RowValue[], are: readonly RowValue[]): Record<string, number> => {
    const [found, wanted] = [of, are] as [readonly never[], readonly never[]]; // the metrics expect this kind
    return Object.fromEntries(Object.entries(metrics.metrics).map(([name, metric]) => [name, metric(found, wanted)]));
  };
  return {
    ...computed,
    primaryMetric: metrics.primary,
    score: (outputs) => ({
      ...scored(predictionsOf(outputs), actual),
      ...mapValues(metrics.ofOutputs ?? {}, (metric) => metric(outputs, actual as readonly never[])),
    }),
    predictions: (outputs) => ({ predicted: predictionsOf(outputs), actual }),
    scoreRows: (of, rows) =>
      scored(
        rows.map((row) => of.predicted[row] as RowValue),
        rows.map((row) => of.actual[row] as RowValue),
      ),
  };
}

function judged(data: EncodedData<TaskKind>, options: BatchOptions): Judged {
  if (isOf(data, 'scored-pairs')) return textCosines(data, options);
  if (isOf(data, 'pairs') || isOf(data, 'triplets')) return nearestTexts(data, options);
  const batches = batchesByLength(data.rows.keys(), data, options);
  if (isOf(data, 'token-classification')) return judgedTags(data, batches);
  if (isOf(data, 'multi-label')) {
    const ofRow = (labels: readonly number[]): number[] =>
      data.classes.map((_, label) => Number(labels.includes(label)));
    return {
      batches,
      predicted: (outputs) => outputs.map(likely),
      actual: data.rows.map(({ labels }) => ofRow(labels)),
    };
  }
  const predictedOf = data.kind === 'classification' ? strongest : only;
  const actual = (data.rows as readonly EncodedRow[]).map(({ label }) => label);
  return { batches, predicted: (outputs) => outputs.map(predictedOf), actual };
}

function isOf<K extends TaskKind>(data: EncodedData<TaskKind>, kind: K): data is EncodedData<K> {
  return data.kind === kind;
}

/**
 * Evaluates the tag of each word, predicted at its first token; truncated words are not evaluated. A row's summary is
 * the tag number of each word, so that the logits of all rows are never in memory together.
 */
function judgedTags(
  { rows, classes }: EncodedData<'token-classification'>,
  batches: EvaluationData['batches'],
): Judged {
  const padded = paddedLengths(batches);
  const wordsOf = rows.map(({ labels }) => [...labels.keys()].filter((token) => (labels[token] as number) >= 0));
  const summarise = (row: number, logits: Float32Array): Float32Array => {
    const width = logits.length / (padded.get(row) as number);
    const tagOf = (token: number): number => strongest(logits.subarray(token * width, (token + 1) * width));
    return Float32Array.from(wordsOf[row] ?? [], tagOf);
  };
  const isSummary = (row: number, output: Float32Array): boolean => output.length === wordsOf[row]?.length;
  const named = (tag: number): string => classes[tag] ?? NO_TAG;
  return {
    batches,
    summarise,
    predicted: (outputs) =>
      outputs.map((output, row) => Array.from(isSummary(row, output) ? output : summarise(row, output), named)),
    actual: rows.map(({ labels }) =>
      Array.from(
        labels.filter((label) => label >= 0),
        named,
      ),
    ),
  };
}

/** The predicted tag if no logit is a number; never right. */
const NO_TAG = '?';

/** 1 for the labels whose probability, the sigmoid of the logit, is above one half, 0 for the others. */
function likely(logits: Float32Array): number[] {
  return Array.from(logits, (logit) => Number(logit > 0));
}

/** The class with the largest logit, the lower one in a tie; -1, which is never right, if no logit is a number. */
function strongest(logits: Float32Array): number {
  let best = -1;
  logits.forEach((logit, index) => {
    if (logit > (best === -1 ? -Infinity : (logits[best] as number))) best = index;
  });
  return best;
}

function only(outputs: Float32Array): number {
  if (outputs.length === 1) return outputs[0] as number;
  throw new ShapeError(`regression is scored on one output a row, the model gives ${outputs.length}`);
}
