import { type Batch, hostIntegers, hostTensor, type HostTensors } from '@peftjs/core';
import type { BatchPlan } from './buckets.js';
import type { EncodedData, EncodedRow } from './encode.js';

/** What turns planned rows into tensors. */
export interface BatchOptions {
  /** Rows of a batch: a positive integer. */
  readonly batchSize: number;
  /** Lengths to pad to, ascending. Default: `chooseBuckets` of the data. */
  readonly buckets?: readonly number[] | undefined;
  /** Token number in padding. Default 0. */
  readonly padId?: number | undefined;
}

/**
 * The tensors of a batch. Places without a row repeat the batch's first row, which every model can compute, and weigh nothing.
 */
export function assembleBatch(data: EncodedData, plan: BatchPlan, { batchSize, padId = 0 }: BatchOptions): Batch {
  const filled = Array.from({ length: batchSize }, (_, place) => plan.rows[place] ?? plan.rows[0] ?? 0);
  const rows = filled.map((row) => data.rows[row] as EncodedRow);
  const labels = rows.map(({ label }) => label);
  return {
    inputs: inputsOf(rows, plan.tokens, padId),
    labels:
      data.kind === 'classification'
        ? hostIntegers(Int32Array.from(labels), [batchSize])
        : hostTensor(Float32Array.from(labels), [batchSize]),
    rowWeights: hostTensor(
      Float32Array.from(filled, (_, place) => (place < plan.rows.length ? 1 : 0)),
      [batchSize],
    ),
    rows: plan.rows,
  };
}

/** Share of the token positions of these batches that no row fills; places without a row count whole. */
export function paddingShare(batches: readonly Batch[]): number {
  let filled = 0;
  let positions = 0;
  for (const { inputs, rowWeights } of batches) {
    const mask = inputs['attentionMask']?.data ?? new Float32Array();
    const tokens = mask.length / rowWeights.data.length;
    positions += mask.length;
    mask.forEach((value, position) => (filled += value * (rowWeights.data[Math.floor(position / tokens)] ?? 0)));
  }
  return positions === 0 ? 0 : 1 - filled / positions;
}

/** `inputIds`, `attentionMask` and, where the tokenizer gives them, `tokenTypeIds`, each [batch, tokens]. */
function inputsOf(rows: readonly EncodedRow[], tokens: number, padId: number): HostTensors {
  const shape = [rows.length, tokens];
  const inputIds = new Int32Array(rows.length * tokens).fill(padId);
  const attentionMask = new Float32Array(rows.length * tokens);
  const tokenTypeIds = new Int32Array(rows.length * tokens);
  rows.forEach(({ ids, typeIds }, place) => {
    inputIds.set(ids, place * tokens);
    attentionMask.fill(1, place * tokens, place * tokens + ids.length);
    if (typeIds) tokenTypeIds.set(typeIds, place * tokens);
  });
  const inputs = { inputIds: hostIntegers(inputIds, shape), attentionMask: hostTensor(attentionMask, shape) };
  const typed = rows.some(({ typeIds }) => typeIds !== undefined);
  return typed ? { ...inputs, tokenTypeIds: hostIntegers(tokenTypeIds, shape) } : inputs;
}
