import { hostTensor, type Batch, type InputBatch, type TrainingData } from '@peftjs/core';
import {
  ConfigError,
  createRng,
  hostFilled,
  hostIntegers,
  integerFrom,
  parseOptions,
  type HostTensor,
  type HostTensors,
  type Rng,
} from '@peftjs/core/method';
import { aList, anInteger, anything, assertArgument, objectLike } from '@peftjs/core/model';
import * as v from 'valibot';
import type { TaskKind } from './data-set.js';
import type { CausalData, CausalRow, EncodedPreferenceRow, PreferenceData } from './encode-language.js';
import {
  encodedTexts,
  type EncodedData,
  type EncodedMultiLabelRow,
  type EncodedRowsByKind,
  type EncodedText,
  IGNORED,
  rowLength,
} from './encode.js';
import { spreadRepeats } from './repeats.js';
import { someMetrics } from './task.js';

/**
 * Training rows are sorted by their length times a random number from [1 - JITTER, 1 + JITTER). Without this, long rows
 * share their batch with the same rows in every epoch, since few rows have the same length (half of RTE's rows are
 * affected); 4 % separates them and costs a few percent of padding.
 */
const JITTER = 0.04;

/** Encoded rows of any kind. */
type AnyData = EncodedData<TaskKind> | CausalData | PreferenceData;
type AnyRow = EncodedRowsByKind[TaskKind] | CausalRow | EncodedPreferenceRow;

/** A schema for encoded rows of any kind. */
export const encodedRows = objectLike<AnyData>('encoded rows, e.g. of encodeRows', { kind: 'string', rows: 'list' });

/**
 * The most held-out rows in a batch: a few rows of similar length need little padding. In one batch of 32 rows of RTE,
 * half is padding.
 */
const HELD_OUT_BATCH = 8;

/** Options of batches. */
export interface BatchOptions {
  /** The number of rows in a batch: a positive integer. */
  readonly batchSize: number;
  /** The token id of padding. Default 0. */
  readonly padId?: number | undefined;
}

/** The options of training and evaluation batches together, so that both can be made with the same ones. */
export const batchEntries = {
  batchSize: integerFrom(1),
  padId: v.optional(anInteger),
  seed: anything,
  metrics: v.optional(someMetrics),
} satisfies Record<keyof TrainingOptions | 'metrics', unknown>;

/** Options of training batches. */
export interface TrainingOptions extends BatchOptions {
  /** The seed of the order of rows and batches. */
  readonly seed: number;
}

/**
 * Creates the batches to train on. Every epoch has every row once. A batch has rows of similar length, padded to its
 * longest; only one batch of an epoch may hold fewer than `batchSize` rows. The order only depends on the lengths, the
 * options and the epoch. For pairs and triplets, a batch has no text twice where that is possible.
 * @throws ConfigError for an impossible option.
 */
export function trainingData(data: AnyData, options: TrainingOptions): TrainingData {
  assertArgument('data', data, encodedRows);
  parseOptions('trainingData', { ...batchEntries, seed: anInteger }, options);
  return trainingOn([...data.rows.keys()], data, options);
}

function trainingOn(
  rows: readonly number[],
  data: AnyData,
  options: TrainingOptions,
): TrainingData & Required<Pick<TrainingData, 'holdOut'>> {
  const { batchSize, seed } = options;
  const separate = withoutRepeats(data);
  return {
    kind: data.kind,
    ...('isChat' in data && { isChat: true }),
    batchesPerEpoch: Math.ceil(rows.length / batchSize),
    epoch(index) {
      const rng = createRng(seed).fork(`epoch ${index}`);
      const jittered = (row: number): number => lengthOf(data, row) * (1 + JITTER * (2 * rng.uniform() - 1));
      const batches = separate(cut(sortedBy(rows, jittered), batchSize));
      return Array.from(rng.permutation(batches.length), (batch) => batchOf(batches[batch] ?? [], data, options, rng));
    },
    holdOut(count) {
      assertArgument('rows', count, integerFrom(1));
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

/** Whether the texts of a batch serve as each other's negatives, so that the batch size affects the loss. */
function hasNegatives(data: AnyData): data is EncodedData<'pairs' | 'triplets'> {
  return data.kind === 'pairs' || data.kind === 'triplets';
}

/**
 * Keeps repeated texts of pairs and triplets out of a batch where possible: a row's right answer would be a wrong one
 * for other rows.
 */
function withoutRepeats(data: AnyData): (batches: number[][]) => number[][] {
  if (!hasNegatives(data)) return (batches) => batches;
  const keys = data.rows.map((row) => [...new Set(encodedTexts(row).map(({ ids }) => ids.join()))]);
  return (batches) => spreadRepeats(batches, (row) => keys[row] ?? []);
}

/** Batches of these rows from the shortest to the longest, the same at every call; the last may hold fewer rows. */
export function batchesByLength(rows: Iterable<number>, data: AnyData, options: BatchOptions): Batch[] {
  const given = [...rows];
  return cutByLength(given, (row) => lengthOf(data, row), options).map(({ rows, ...sorted }) =>
    Object.assign(batchOf(rows, data, options), sorted),
  );
}

/** Sorts rows by length and cuts them into batches, which know where their rows stood. */
function cutByLength(
  rows: readonly number[],
  lengthOfRow: (row: number) => number,
  { batchSize }: BatchOptions,
): Required<Pick<InputBatch, 'rows' | 'sorted'>>[] {
  const places = sortedBy([...rows.keys()], (place) => lengthOfRow(rows[place] as number));
  return cut(places, batchSize).map((own) => ({
    rows: own.map((place) => rows[place] as number),
    sorted: { places: own, of: rows.length },
  }));
}

/** Returns the number of positions of each row with its padding, by the row's number. */
export function paddedLengths(batches: readonly InputBatch[]): ReadonlyMap<number, number> {
  const lengths = batches.map(({ rows, inputs }) => ({ rows, tokens: inputs['inputIds']?.shape[1] as number }));
  return new Map(lengths.flatMap(({ rows, tokens }) => rows.map((row) => [row, tokens] as const)));
}

/** The share of these batches' token positions that are padding. */
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

/** A stable sort; `keyOf` is called once per row, in the given order. */
function sortedBy(rows: readonly number[], keyOf: (row: number) => number): number[] {
  const keyed = rows.map((row) => ({ row, key: keyOf(row) }));
  return keyed.sort((a, b) => a.key - b.key).map(({ row }) => row);
}

/** Cuts rows into batches. */
export function cut(rows: readonly number[], batchSize: number): number[][] {
  return Array.from({ length: Math.ceil(rows.length / batchSize) }, (_, batch) =>
    rows.slice(batch * batchSize, (batch + 1) * batchSize),
  );
}

function lengthOf({ rows }: AnyData, row: number): number {
  return rowLength(rows[row] as AnyRow);
}

function batchOf(rows: readonly number[], data: AnyData, { padId = 0 }: BatchOptions, rng?: Rng): Batch {
  const make = 'inputs' in data ? data.inputs : undefined;
  if (make) {
    const own = rows.map((row) => data.rows[row] as EncodedText);
    return Object.assign(
      madeWhenRead(rows, () => make(own, rng)),
      { labels: labelsOf(rows, data, 0) },
    );
  }
  const texts = rows.map((row) => encodedTexts(data.rows[row] as AnyRow));
  const columns = texts[0]?.length ?? 1;
  const byColumn = Array.from({ length: columns }, (_, column) => texts.map((of) => of[column] as EncodedText)).flat();
  const inputs = inputsOf(byColumn, padId);
  return {
    inputs,
    labels: labelsOf(rows, data, inputs.inputIds.shape[1] as number),
    rowWeights: hostFilled([rows.length], 1),
    rows,
    ...(columns > 1 && { columns }),
  };
}

/** A batch whose inputs are made when they are read: those of an epoch of images would fill the memory. */
export function madeWhenRead(rows: readonly number[], make: () => HostTensors): InputBatch {
  let made: WeakRef<HostTensors> | undefined;
  return {
    get inputs() {
      const inputs = made?.deref() ?? make();
      made = new WeakRef(inputs);
      return inputs;
    },
    rowWeights: hostFilled([rows.length], 1),
    rows,
  };
}

/**
 * Batches of texts to compute outputs for, from the shortest to the longest; row n is text n.
 * @throws ConfigError for an impossible option.
 */
export function inputBatches(texts: readonly EncodedText[], options: BatchOptions): InputBatch[] {
  assertArgument('texts', texts, aList);
  parseOptions('inputBatches', batchEntries, options);
  const { padId = 0 } = options;
  const lengthOfText = (text: number): number => texts[text]?.ids.length ?? 0;
  return cutByLength([...texts.keys()], lengthOfText, options).map((batch) => {
    const own = batch.rows.map((text) => texts[text] as EncodedText);
    return { inputs: inputsOf(own, padId), rowWeights: hostFilled([own.length], 1), ...batch };
  });
}

/**
 * The labels of a batch: class numbers, targets or scores [batch]; for multi-label rows 0 or 1 per label [batch,
 * labels]; for tags and language models the class or token of each position [batch, tokens], -100 where nothing is
 * learnt; for preferences those of all chosen, then of all rejected answers [2 * batch, tokens]; zeros [batch] where
 * the loss reads no labels.
 */
function labelsOf(rows: readonly number[], data: AnyData, tokens: number): HostTensor {
  const own = rows.map((row) => data.rows[row] as AnyRow);
  switch (data.kind) {
    case 'causal-lm':
    case 'token-classification':
      return tokenLabels(own as readonly CausalRow[], tokens);
    case 'preferences': {
      const answers = own.map((row) => (row as EncodedPreferenceRow).texts);
      return tokenLabels(
        [0, 1].flatMap((column) => answers.map((texts) => texts[column] as CausalRow)),
        tokens,
      );
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

/** The labels of texts [texts, tokens], with -100 in padding. */
function tokenLabels(texts: readonly Pick<CausalRow, 'labels'>[], tokens: number): HostTensor {
  const labels = new Int32Array(texts.length * tokens).fill(IGNORED);
  texts.forEach((text, place) => labels.set(text.labels, place * tokens));
  return hostIntegers(labels, [texts.length, tokens]);
}

function labelOf(row: AnyRow): number {
  if ('score' in row) return row.score;
  return 'label' in row ? row.label : 0;
}

/** `inputIds`, `attentionMask` and, if the tokenizer provides them, `tokenTypeIds`, each [batch, tokens]. */
function inputsOf(rows: readonly EncodedText[], padId: number) {
  const tokens = rows.reduce((longest, row) => Math.max(longest, rowLength(row)), 0);
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
