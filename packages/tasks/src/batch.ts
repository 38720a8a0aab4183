import { type Batch, hostIntegers, hostTensor, type HostTensor, type HostTensors } from '@peftjs/core';
import type { BatchPlan } from './buckets.js';
import type { EncodedData, EncodedRow } from './encode.js';
import { type CausalData, type CausalRow, ignored } from './language/causal-data.js';

type TokensOfRow = Pick<EncodedRow, 'ids' | 'typeIds'>;

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
export function assembleBatch(
  data: EncodedData | CausalData,
  plan: BatchPlan,
  { batchSize, padId = 0 }: BatchOptions,
): Batch {
  const filled = Array.from({ length: batchSize }, (_, place) => plan.rows[place] ?? plan.rows[0] ?? 0);
  return {
    inputs: inputsOf(
      filled.map((row) => data.rows[row] as TokensOfRow),
      plan.tokens,
      padId,
    ),
    labels: labelsOf(data, filled, plan.tokens),
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

/** Class numbers or targets [batch]; of a language model the tokens to predict [batch, tokens], none in padding. */
function labelsOf(data: EncodedData | CausalData, filled: readonly number[], tokens: number): HostTensor {
  if (data.kind === 'causal-lm') {
    const labels = new Int32Array(filled.length * tokens).fill(ignored);
    filled.forEach((row, place) => labels.set((data.rows[row] as CausalRow).labels, place * tokens));
    return hostIntegers(labels, [filled.length, tokens]);
  }
  const labels = filled.map((row) => (data.rows[row] as EncodedRow).label);
  return data.kind === 'classification'
    ? hostIntegers(Int32Array.from(labels), [filled.length])
    : hostTensor(Float32Array.from(labels), [filled.length]);
}

/** `inputIds`, `attentionMask` and, where the tokenizer gives them, `tokenTypeIds`, each [batch, tokens]. */
function inputsOf(rows: readonly TokensOfRow[], tokens: number, padId: number): HostTensors {
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
