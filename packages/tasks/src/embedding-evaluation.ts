import type { EvaluationData } from '@peftjs/core';
import type { RowValue } from '@peftjs/core/model';
import { type BatchOptions, inputBatches } from './batches.js';
import type { EncodedData, EncodedText, EncodedTextsRow } from './encode.js';

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
        return nearest(units[anchor] as Float64Array, others, units);
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

/** The candidates with the largest cosines, best first; ties keep the order of the candidates. */
function nearest(anchor: Float64Array, candidates: readonly number[], units: readonly Float64Array[]): number[] {
  const best: { readonly candidate: number; readonly cosine: number }[] = [];
  for (const candidate of candidates) {
    const product = dot(anchor, units[candidate] as Float64Array);
    const cosine = Number.isNaN(product) ? -Infinity : product;
    if (best.length === NEAREST && cosine <= (best.at(-1)?.cosine ?? 0)) continue;
    const place = best.findIndex((other) => cosine > other.cosine);
    best.splice(place === -1 ? best.length : place, 0, { candidate, cosine });
    best.length = Math.min(best.length, NEAREST);
  }
  return best.map(({ candidate }) => candidate);
}

/** x / ||x||; zeros stay zeros. */
function unit(output: Float32Array): Float64Array {
  const x = Float64Array.from(output);
  const length = Math.sqrt(dot(x, x)) || 1;
  return x.map((value) => value / length);
}

/** Uses four independent sums, which halves the time on large files. */
function dot(a: Float64Array, b: Float64Array): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let at = 0;
  for (; at + 3 < a.length; at += 4) {
    s0 += (a[at] as number) * (b[at] as number);
    s1 += (a[at + 1] as number) * (b[at + 1] as number);
    s2 += (a[at + 2] as number) * (b[at + 2] as number);
    s3 += (a[at + 3] as number) * (b[at + 3] as number);
  }
  for (; at < a.length; at++) s0 += (a[at] as number) * (b[at] as number);
  return s0 + s1 + s2 + s3;
}
