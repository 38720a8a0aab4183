import { hostTensor, predict, type Batch, type Executor, type Model, type PeftModel } from '@peftjs/core';
import { hostIntegers, type HostTensor, type Rng } from '@peftjs/core/method';

/** The labels that a student learns from: the teacher's logits, or the index of the largest. */
export type LabelKind = 'logits' | 'classes';
/** All kinds of labels. */
export const LABELS: readonly LabelKind[] = ['logits', 'classes'];

/** Labelled rows of random tokens. */
export interface Rows {
  /** The token ids of each row. */
  readonly ids: readonly Int32Array[];
  /** The teacher's logits without noise, [outputs] each. */
  readonly clean: readonly Float32Array[];
  /** The logits that labels are made from, [outputs] each. */
  readonly logits: readonly Float32Array[];
}

/** The smallest and largest number of tokens in a row. */
const TOKENS = [6, 16] as const;
/** Number of rows predicted at once. */
const PREDICTED = 256;

/** Draws rows of random token ids with lengths in the range of `TOKENS`. */
export function drawnRows(model: Model, count: number, rng: Rng): Int32Array[] {
  const words = model.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const [least, most] = TOKENS;
  return Array.from({ length: count }, () =>
    Int32Array.from({ length: least + rng.integer(most - least + 1) }, () => rng.integer(words)),
  );
}

/** Returns a model's logits for rows without labels, [outputs] each. */
export async function logitsOf(
  model: Model | PeftModel,
  ids: readonly Int32Array[],
  executor: Executor,
): Promise<Float32Array[]> {
  const numbers = [...ids.keys()];
  return predict(
    model,
    batchesOf(numbers, PREDICTED, (rows) => batchOf(rows, ids, noLabels(rows))),
    { executor },
  );
}

const noLabels = (rows: readonly number[]): HostTensor => hostIntegers(new Int32Array(rows.length), [rows.length]);

/** Splits row numbers into batches of a size; the last may be smaller. */
export function batchesOf(rows: readonly number[], size: number, make: (rows: readonly number[]) => Batch): Batch[] {
  return Array.from({ length: Math.ceil(rows.length / size) }, (_, at) => make(rows.slice(at * size, (at + 1) * size)));
}

/** Returns a batch of labelled rows. */
export function labelledBatch(rows: readonly number[], { ids, logits }: Rows, labels: LabelKind): Batch {
  const own = rows.map((row) => logits[row] as Float32Array);
  const outputs = own[0]?.length ?? 0;
  return batchOf(
    rows,
    ids,
    labels === 'classes'
      ? hostIntegers(Int32Array.from(own, argmax), [rows.length])
      : hostTensor(Float32Array.from(own.flatMap((row) => [...row])), [rows.length, 1, outputs]), // no axis of tokens
  );
}

/** Returns a batch. All batches are padded to the same number of tokens. */
function batchOf(rows: readonly number[], ids: readonly Int32Array[], labels: HostTensor): Batch {
  const tokens = TOKENS[1];
  const inputIds = new Int32Array(rows.length * tokens);
  const mask = new Float32Array(rows.length * tokens);
  rows.forEach((row, index) => {
    const own = ids[row] as Int32Array;
    inputIds.set(own, index * tokens);
    mask.fill(1, index * tokens, index * tokens + own.length);
  });
  return {
    inputs: {
      inputIds: hostIntegers(inputIds, [rows.length, tokens]),
      attentionMask: hostTensor(mask, [rows.length, tokens]),
    },
    labels,
    rowWeights: hostTensor(new Float32Array(rows.length).fill(1), [rows.length]),
    rows: [...rows],
  };
}

/** Returns the index of the largest value, the first of equal ones. */
export function argmax(values: Float32Array): number {
  return values.indexOf(Math.max(...values));
}

/** Returns the mean squared error over all elements of all rows. */
export function meanSquaredError(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  let [sum, count] = [0, 0];
  a.forEach((row, at) =>
    row.forEach((value, column) => {
      sum += (value - (b[at]?.[column] as number)) ** 2;
      count++;
    }),
  );
  return sum / count;
}
