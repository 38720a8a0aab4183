import type { EvaluationData } from '@peftjs/core';
import type { RowValue } from '@peftjs/core/model';
import { type BatchOptions, inputBatches } from './batches.js';
import type { EncodedData, EncodedText, EncodedTextsRow } from './encode.js';
import { dot, isNumber, nearest, unit } from './nearest.js';

/** The batches to compute outputs of, the predictions from these outputs, and the labels; see `PredictionsByKind`. */
export interface Judged extends Pick<EvaluationData, 'batches' | 'summarise'> {
  /** Turns the outputs of all rows into predictions. */
  predicted(outputs: readonly Float32Array[]): readonly RowValue[];
  /** The labels, one per prediction. */
  readonly actual: readonly RowValue[];
}

/** The number of nearest texts that the metrics of an anchor use. */
const NEAREST = 10;

/** Predicts the cosine of each pair of texts; the label is the pair's score. */
export function textCosines(data: EncodedData<'scored-pairs'>, options: BatchOptions): Judged {
  const { texts, numberOf } = distinctTexts(data.rows);
  const pairs = data.rows.map((row) => row.texts.map(numberOf));
  return {
    batches: inputBatches(texts, options),
    predicted(outputs) {
      const units = outputs.map(unit);
      return pairs.map(([a = 0, b = 0]) => dot(units[a] as Float64Array, units[b] as Float64Array));
    },
    actual: data.rows.map(({ score }) => score),
  };
}

/**
 * Predicts, for each anchor, the nearest positives and negatives of all rows by cosine; the label is the anchor's own
 * positives. Both are text numbers. An anchor that is also a positive of another anchor does not find itself.
 */
export function nearestTexts(data: EncodedData<'pairs' | 'triplets'>, options: BatchOptions): Judged {
  const { texts, numberOf } = distinctTexts(data.rows);
  const positives = new Map<number, Set<number>>();
  const candidates = new Set<number>();
  for (const row of data.rows) {
    const [anchor = 0, positive = 0, ...negatives] = row.texts.map(numberOf);
    positives.set(anchor, (positives.get(anchor) ?? new Set()).add(positive));
    for (const candidate of [positive, ...negatives]) candidates.add(candidate);
  }
  const ordered = [...candidates];
  return {
    batches: inputBatches(texts, options),
    predicted(outputs) {
      const units = outputs.map(unit);
      return [...positives].map(([anchor, own]) => {
        const others = ordered.filter((candidate) => candidate !== anchor || own.has(anchor));
        const found = nearest(units[anchor] as Float64Array, others, units, NEAREST);
        return found.filter(isNumber).map(({ corpusId }) => corpusId);
      });
    },
    actual: [...positives.values()].map((own) => [...own]),
  };
}

/** The distinct texts in order of first appearance; texts with the same tokens are the same to a model. */
function distinctTexts(rows: readonly EncodedTextsRow[]): {
  readonly texts: readonly EncodedText[];
  numberOf(text: EncodedText): number;
} {
  const numbers = new Map<string, number>();
  const texts: EncodedText[] = [];
  const keyOf = ({ ids }: EncodedText): string => ids.join();
  for (const text of rows.flatMap((row) => row.texts)) {
    const key = keyOf(text);
    if (numbers.has(key)) continue;
    numbers.set(key, texts.length);
    texts.push(text);
  }
  return { texts, numberOf: (text) => numbers.get(keyOf(text)) as number };
}
