import { hostTensor, type Batch, type InputBatch, type TrainingData } from '@peftjs/core';
import { ConfigError, createRng, hostIntegers, type HostTensor, type HostTensors } from '@peftjs/core/method';
import type { TaskKind } from './data-set.js';
import type { CausalData, CausalRow } from './encode-language.js';
import {
  checkPositive,
  encodedTexts,
  type EncodedData,
  type EncodedMultiLabelRow,
  type EncodedRowsByKind,
  type EncodedText,
  IGNORED,
  rowLength,
} from './encode.js';
import { spreadRepeats } from './repeats.js';

/**
 * Training rows are sorted by their length times a number drawn from [1 - JITTER, 1 + JITTER). Without it the mates of long rows,
 * of which few have one length, are the same in each epoch (half of RTE's); 4 % separates them for a few percent of padding.
 */
const JITTER = 0.04;

/** Encoded rows of any kind. */
type AnyData = EncodedData<TaskKind> | CausalData;
type AnyRow = EncodedRowsByKind[TaskKind] | CausalRow;

/** Rows held out in a batch, at most: few rows of similar length have little padding. Of 32 of RTE in one batch it is half. */
const HELD_OUT_BATCH = 8;

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
 * only the lengths, the options and the epoch decide; of pairs and triplets with no text twice in a batch, where that can be. Only one batch of an epoch may hold fewer than `batchSize` rows.
 * @throws ConfigError for an impossible option.
 */
export function trainingData(data: AnyData, options: TrainingOptions): TrainingData {
  checkPositive('batchSize', options.batchSize);
  return trainingOn([...data.rows.keys()], data, options);
}

function trainingOn(
  rows: readonly number[],
  data: AnyData,
  options: TrainingOptions,
): TrainingData & Required<Pick<TrainingData, 'holdOut'>> {
  const { batchSize, seed } = options;
  const apart = repeatsApart(data);
  return {
    kind: data.kind,
    batchesPerEpoch: Math.ceil(rows.length / batchSize),
    epoch(index) {
      const rng = createRng(seed).fork(`epoch ${index}`);
      const jittered = (row: number): number => lengthOf(data, row) * (1 + JITTER * (2 * rng.uniform() - 1));
      const batches = apart(cut(sortedBy(rows, jittered), batchSize));
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
      const heldOptions = hasNegatives(data) ? options : { ...options, batchSize: Math.min(batchSize, HELD_OUT_BATCH) };
      return { rest: trainingOn(part(false), data, options), heldOut: batchesByLength(part(true), data, heldOptions) };
    },
  };
}

/** Whether the texts of a batch are each other's negatives, so that its size is part of the loss. */
function hasNegatives(data: AnyData): data is EncodedData<'pairs' | 'triplets'> {
  return data.kind === 'pairs' || data.kind === 'triplets';
}

/** Of pairs and triplets a batch has each text once, as far as that goes: what is right for one row is wrong for all others. */
function repeatsApart(data: AnyData): (batches: number[][]) => number[][] {
  if (!hasNegatives(data)) return (batches) => batches;
  const keys = data.rows.map((row) => [...new Set(encodedTexts(row).map(({ ids }) => ids.join()))]);
  return (batches) => spreadRepeats(batches, (row) => keys[row] ?? []);
}

/** Batches of these rows from the shortest to the longest, the same ones at every call; the last may hold fewer rows. */
export function batchesByLength(rows: Iterable<number>, data: AnyData, options: BatchOptions): Batch[] {
  const sorted = sortedBy([...rows], (row) => lengthOf(data, row));
  return cut(sorted, options.batchSize).map((batch) => batchOf(batch, data, options));
}

/** Share of the token positions of these batches that no row fills. */
export function paddingShare(batches: readonly InputBatch[]): number {
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

function lengthOf({ rows }: AnyData, row: number): number {
  return rowLength(rows[row] as AnyRow);
}

function batchOf(rows: readonly number[], data: AnyData, { padId = 0 }: BatchOptions): Batch {
  const texts = rows.map((row) => encodedTexts(data.rows[row] as AnyRow));
  const columns = texts[0]?.length ?? 1;
  const byColumn = Array.from({ length: columns }, (_, column) => texts.map((of) => of[column] as EncodedText)).flat();
  const tokens = byColumn.reduce((longest, { ids }) => Math.max(longest, ids.length), 0);
  return {
    inputs: inputsOf(byColumn, tokens, padId),
    labels: labelsOf(rows, data, tokens),
    rowWeights: onesOf(rows.length),
    rows,
    ...(columns > 1 && { columns }),
  };
}

/**
 * Texts to compute outputs of, as batches from the shortest to the longest; row n is the text n.
 * @throws ConfigError for an impossible option.
 */
export function inputBatches(texts: readonly EncodedText[], options: BatchOptions): InputBatch[] {
  const { batchSize, padId = 0 } = options;
  checkPositive('batchSize', batchSize);
  const sorted = sortedBy([...texts.keys()], (row) => texts[row]?.ids.length ?? 0);
  return cut(sorted, batchSize).map((rows) => {
    const own = rows.map((row) => texts[row] as EncodedText);
    const tokens = own.reduce((longest, { ids }) => Math.max(longest, ids.length), 0);
    return { inputs: inputsOf(own, tokens, padId), rowWeights: onesOf(rows.length), rows };
  });
}

function onesOf(rows: number): HostTensor {
  return hostTensor(new Float32Array(rows).fill(1), [rows]);
}

/**
 * Class numbers, targets or scores [batch]; 0 and 1 for each label [batch, labels]; of tags, and of a language model the tokens to predict,
 * [batch, tokens], none in padding; zeros [batch] where a loss reads none.
 */
function labelsOf(rows: readonly number[], data: AnyData, tokens: number): HostTensor {
  const own = rows.map((row) => data.rows[row] as AnyRow);
  switch (data.kind) {
    case 'causal-lm':
    case 'token-classification': {
      const labels = new Int32Array(rows.length * tokens).fill(IGNORED);
      own.forEach((row, place) => labels.set((row as CausalRow).labels, place * tokens));
      return hostIntegers(labels, [rows.length, tokens]);
    }
    case 'multi-label': {
      const width = data.classes.length;
      const labels = new Float32Array(rows.length * width);
      own.forEach((row, place) => {
        for (const label of (row as EncodedMultiLabelRow).labels) labels[place * width + label] = 1;
      });
      return hostTensor(labels, [rows.length, width]);
    }
    case 'classification':
      return hostIntegers(Int32Array.from(own, labelOf), [rows.length]);
    default:
      return hostTensor(Float32Array.from(own, labelOf), [rows.length]);
  }
}

function labelOf(row: AnyRow): number {
  if ('score' in row) return row.score;
  return 'label' in row ? row.label : 0;
}

/** `inputIds`, `attentionMask` and, where the tokenizer gives them, `tokenTypeIds`, each [batch, tokens]. */
function inputsOf(rows: readonly EncodedText[], tokens: number, padId: number): HostTensors {
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
