import { hostTensor, type Batch, type TrainingData } from '@peftjs/core';
import { ConfigError, createRng, hostIntegers, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { type CausalData, type CausalRow, ignored } from './encode-language.js';
import { checkPositive, type EncodedData, type EncodedRow } from './encode.js';

/**
 * Training rows are sorted by their length times a number drawn from [1 - JITTER, 1 + JITTER). Without it the mates of long rows,
 * of which few have one length, are the same in each epoch (half of RTE's); 4 % separates them for a few percent of padding.
 */
const JITTER = 0.04;

type TokensOfRow = Pick<EncodedRow, 'ids' | 'typeIds'>;

/** How rows become batches. */
export interface BatchOptions {
  /** Rows of a batch: a positive integer. */
  readonly batchSize: number;
  /** Token number in padding. Default 0. */
  readonly padId?: number | undefined;
}

/** How training rows become batches. */
export interface TrainingOptions extends BatchOptions {
  readonly seed: number;
}

/**
 * Batches to train on: every row once an epoch, among rows of about its length and padded to the longest of them, in an order that
 * only the lengths, the options and the epoch decide. Only one batch of an epoch may hold fewer than `batchSize` rows.
 * @throws ConfigError for an impossible option.
 */
export function trainingData(data: EncodedData | CausalData, options: TrainingOptions): TrainingData {
  checkPositive('batchSize', options.batchSize);
  return trainingOn([...data.rows.keys()], data, options);
}

function trainingOn(
  rows: readonly number[],
  data: EncodedData | CausalData,
  options: TrainingOptions,
): TrainingData & Required<Pick<TrainingData, 'holdOut'>> {
  const { batchSize, seed } = options;
  return {
    kind: data.kind,
    batchesPerEpoch: Math.ceil(rows.length / batchSize),
    epoch(index) {
      const rng = createRng(seed).fork(`epoch ${index}`);
      const jittered = (row: number): number => lengthOf(data, row) * (1 + JITTER * (2 * rng.uniform() - 1));
      const batches = cut(sortedBy(rows, jittered), batchSize);
      return Array.from(rng.permutation(batches.length), (batch) => batchOf(batches[batch] ?? [], data, options));
    },
    holdOut(count) {
      checkPositive('rows', count);
      if (count >= rows.length) {
        throw new ConfigError(
          `${data.name}: expected to hold out fewer than its ${rows.length} rows, got ${count}`,
          'rows',
        );
      }
      const order = createRng(seed).fork('held out').permutation(rows.length);
      const heldOut = new Set(Array.from(order.subarray(0, count), (place) => rows[place] as number));
      const part = (isHeldOut: boolean): number[] => rows.filter((row) => heldOut.has(row) === isHeldOut);
      return { rest: trainingOn(part(false), data, options), heldOut: batchesByLength(part(true), data, options) };
    },
  };
}

/** Batches of these rows from the shortest to the longest, the same ones at every call; the last may hold fewer rows. */
export function batchesByLength(
  rows: Iterable<number>,
  data: EncodedData | CausalData,
  options: BatchOptions,
): Batch[] {
  const sorted = sortedBy([...rows], (row) => lengthOf(data, row));
  return cut(sorted, options.batchSize).map((batch) => batchOf(batch, data, options));
}

/** Share of the token positions of these batches that no row fills. */
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

/** Stable; each row is asked for once, in the order given. */
function sortedBy(rows: readonly number[], keyOf: (row: number) => number): number[] {
  const keyed = rows.map((row) => ({ row, key: keyOf(row) }));
  return keyed.sort((a, b) => a.key - b.key).map(({ row }) => row);
}

function cut(rows: readonly number[], batchSize: number): number[][] {
  return Array.from({ length: Math.ceil(rows.length / batchSize) }, (_, batch) =>
    rows.slice(batch * batchSize, (batch + 1) * batchSize),
  );
}

function lengthOf({ rows }: EncodedData | CausalData, row: number): number {
  return rows[row]?.ids.length ?? 0;
}

function batchOf(rows: readonly number[], data: EncodedData | CausalData, { padId = 0 }: BatchOptions): Batch {
  const tokens = rows.reduce((longest, row) => Math.max(longest, lengthOf(data, row)), 0);
  return {
    inputs: inputsOf(
      rows.map((row) => data.rows[row] as TokensOfRow),
      tokens,
      padId,
    ),
    labels: labelsOf(rows, data, tokens),
    rowWeights: hostTensor(new Float32Array(rows.length).fill(1), [rows.length]),
    rows,
  };
}

/** Class numbers or targets [batch]; of a language model the tokens to predict [batch, tokens], none in padding. */
function labelsOf(rows: readonly number[], data: EncodedData | CausalData, tokens: number): HostTensor {
  if (data.kind === 'causal-lm') {
    const labels = new Int32Array(rows.length * tokens).fill(ignored);
    rows.forEach((row, place) => labels.set((data.rows[row] as CausalRow).labels, place * tokens));
    return hostIntegers(labels, [rows.length, tokens]);
  }
  const labels = rows.map((row) => (data.rows[row] as EncodedRow).label);
  return data.kind === 'classification'
    ? hostIntegers(Int32Array.from(labels), [rows.length])
    : hostTensor(Float32Array.from(labels), [rows.length]);
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
  const isTyped = rows.some(({ typeIds }) => typeIds !== undefined);
  return isTyped ? { ...inputs, tokenTypeIds: hostIntegers(tokenTypeIds, shape) } : inputs;
}
