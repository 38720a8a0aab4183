import { ConfigError, createRng, DataError, grouped, integerFrom, parseOptions, type Rng } from '@peftjs/core/method';
import { anInteger, anything, assertArgument, firstNames } from '@peftjs/core/model';
import { encodedRows } from './batches.js';
import {
  aDataSet,
  createDataSet,
  type DataSet,
  type Row,
  type RowsByKind,
  selectRows,
  type TaskKind,
  textsKey,
} from './data-set.js';
import { type CausalData, countTruncated, type PreferenceData } from './encode-language.js';
import { type LanguageSet, languageSet } from './language.js';

/**
 * Draws `count` rows by a seed, with each class in proportion and in the order of the data set. Returns the data set
 * itself if it has no more rows.
 * @throws ConfigError when `count` is not a positive integer.
 */
export async function sliceRows<K extends TaskKind>(
  dataSet: DataSet<K>,
  count: number,
  seed: number,
): Promise<DataSet<K>> {
  assertArgument('count', count, integerFrom(1));
  const { name, rows } = dataSet;
  if (count >= rows.length) return dataSet;
  const rng = createRng(seed).fork('slice');
  return selectRows(dataSet, drawRows(rows.length, count, { stratumOf: stratumByLabel(dataSet), rng }).drawn, name);
}

/** A training set split in two. */
export interface SelectionSplit<K extends TaskKind = TaskKind> {
  /** The rows to train on. */
  readonly train: DataSet<K>;
  /** The rows that select a checkpoint. */
  readonly selection: DataSet<K>;
}

/**
 * Sets a share of a training set aside for selecting checkpoints: drawn by the seed, with each class in proportion, and
 * rows whose texts are all the same on the same side. Default share 0.1.
 * @throws ConfigError for a share outside (0, 1), DataError when one side would be empty, or the training rows would
 * have only one class.
 */
export async function splitSelection<K extends TaskKind>(
  dataSet: DataSet<K>,
  options: { readonly share?: number | undefined; readonly seed: number },
): Promise<SelectionSplit<K>> {
  assertArgument('dataSet', dataSet, aDataSet);
  parseOptions('splitSelection', { share: anything, seed: anInteger }, options);
  const { share = 0.1, seed } = options;
  const { train, aside } = await setAside(dataSet, 'selection', share, createRng(seed).fork('selection'));
  return { train, selection: aside };
}

/**
 * Gives a share of the rows another class: drawn by the seed, from each class in proportion, every other class equally
 * likely. A model can only memorise these rows.
 * @throws ConfigError for a share outside (0, 1), or a data set without classes.
 */
export async function flipLabels<K extends TaskKind>(
  dataSet: DataSet<K>,
  { share, seed }: { readonly share: number; readonly seed: number },
): Promise<DataSet<K>> {
  checkShare(share);
  const { name, kind, classes, rows } = dataSet;
  if (kind !== 'classification' || classes.length < 2) {
    throw new ConfigError(`${name}: only classes can be flipped, but its rows are for ${kind}`, 'flippedLabels');
  }
  const rng = createRng(seed).fork('flip');
  const stratumOf = stratumByLabel(dataSet);
  const drawn = new Set(drawRows(rows.length, Math.round(share * rows.length), { stratumOf, rng }).drawn);
  const flipped = rows.map((row, number) => {
    if (!drawn.has(number) || !('label' in row)) return row;
    return { ...row, label: (row.label + 1 + rng.integer(classes.length - 1)) % classes.length };
  });
  return createDataSet({ name, kind, classes, rows: flipped });
}

/** The share of the rows that are reported on if there is no file for them, and the seed that draws them. */
const DEV_SHARE = 0.1;
const DEV_SEED = 0;

/**
 * Holds out a tenth of a file's rows to report results on: always the same rows, each class in proportion, and rows
 * whose texts are all the same on the same side.
 * @throws DataError when one side would be empty, or the training rows would have only one class.
 */
export async function holdOutDev<K extends TaskKind>(
  dataSet: DataSet<K>,
): Promise<Record<'train' | 'dev', DataSet<K>>> {
  const { train, aside } = await setAside(dataSet, 'dev', DEV_SHARE, createRng(DEV_SEED).fork('dev'));
  return { train, dev: aside };
}

/**
 * Holds out a tenth of the rows of a language set to report results on: always the same rows, and equal rows, or
 * preferences with the same prompt, on the same side.
 * @throws DataError when one side would be empty, e.g. for a text file that is one document.
 */
export async function holdOutLanguage(set: LanguageSet): Promise<Record<'train' | 'dev', LanguageSet>> {
  const { name, rows } = set;
  const keyOf = (number: number): string => {
    const row = rows[number] as LanguageSet['rows'][number];
    return JSON.stringify('rejected' in row ? row.prompt : row);
  };
  const way =
    'give a development file or split the text into documents (--document-end); a table with labels must be named .tsv or .csv';
  const refusal = `hold out a tenth, got ${rows.length}; ${way}`;
  const { drawn, rest } = drawShare(set, DEV_SHARE, { keyOf, rng: createRng(DEV_SEED).fork('dev') }, refusal);
  const part = (own: readonly number[]) => own.map((row) => rows[row]) as LanguageSet['rows'];
  return { train: await languageSet(name, part(rest)), dev: await languageSet(`${name}/dev`, part(drawn)) };
}

async function setAside<K extends TaskKind>(
  dataSet: DataSet<K>,
  what: 'selection' | 'dev',
  share: number,
  rng: Rng,
): Promise<Record<'train' | 'aside', DataSet<K>>> {
  checkShare(share);
  const { name, rows } = dataSet;
  const keyOf = (row: number): string => textsKey(rows[row] as RowsByKind[TaskKind]);
  const refusal = `set a share of ${share} aside, got ${rows.length} ${rows.length === 1 ? 'row' : 'rows'}, too few or too similar`;
  const { drawn, rest } = drawShare(dataSet, share, { keyOf, stratumOf: stratumByLabel(dataSet), rng }, refusal);
  assertClasses(dataSet, rest, what);
  return {
    train: await selectRows(dataSet, rest, `${name}/train`),
    aside: await selectRows(dataSet, drawn, `${name}/${what}`),
  };
}

/** @throws DataError when the training rows have only one class left, though the data have several. */
function assertClasses(
  { name, kind, classes, rows: all }: DataSet<TaskKind>,
  training: readonly number[],
  what: 'selection' | 'dev',
): void {
  if (kind !== 'classification') return;
  const rows = all as readonly Row[];
  const [left, ...others] = new Set(training.map((row) => (rows[row] as Row).label));
  if (left === undefined || others.length > 0) return;
  const lost = classes.filter((_, label) => label !== left && rows.some((row) => row.label === label));
  if (lost.length === 0) return;
  const gone = `every row of ${firstNames(lost.map((label) => JSON.stringify(label)))}`;
  throw new DataError(
    `${name}: expected two classes to train on, got only ${JSON.stringify(classes[left])}: of ${rows.length} rows, ${what} takes ${gone}; add rows`,
    name,
  );
}

/** Classes are strata; numbers are not. */
function stratumByLabel({ kind, rows }: DataSet<TaskKind>): (row: number) => number {
  return kind === 'classification' ? (row) => (rows[row] as Row).label : () => 0;
}

/** Rows of tokens for a language model. */
type AnyLanguageData = CausalData | PreferenceData;

/** The rows of a language set, split in two. */
export interface CausalSplit<D extends AnyLanguageData = CausalData> {
  /** The rows to train on. */
  readonly train: D;
  /** The rows that select a checkpoint. */
  readonly selection: D;
}

/**
 * Sets a share of encoded rows aside for selecting checkpoints: drawn by the seed, with equal rows, or preferences with
 * the same prompt, on the same side. Default share 0.1.
 * @throws ConfigError for a share outside (0, 1), DataError when one side would be empty.
 */
export function splitCausal<D extends AnyLanguageData>(
  data: D,
  options: { readonly share?: number | undefined; readonly seed: number },
): CausalSplit<D> {
  assertArgument('data', data, encodedRows);
  parseOptions('splitCausal', { share: anything, seed: anInteger }, options);
  const { share = 0.1, seed } = options;
  checkShare(share);
  const { name, rows } = data;
  const found = `${rows.length}, too few or too similar; give shorter rows or a separate file`;
  const refusal = `set a share of ${share} aside, got ${found}`;
  const drawing = { keyOf: (row: number) => keyOf(data, row), rng: createRng(seed).fork('selection') };
  const { drawn, rest } = drawShare(data, share, drawing, refusal);
  return {
    train: { ...withRows(data, rest), name: `${name}/train` },
    selection: { ...withRows(data, drawn), name: `${name}/selection` },
  };
}

/** A key for the tokens of a row, of preferences for those of the prompt. */
function keyOf({ rows }: AnyLanguageData, number: number): string {
  const row = rows[number] as AnyLanguageData['rows'][number];
  if (!('texts' in row)) return row.ids.join();
  const [{ ids, labels }] = row.texts;
  return ids
    .subarray(
      0,
      labels.findIndex((label) => label >= 0),
    )
    .join();
}

/**
 * Draws `count` encoded rows by a seed, in their order. Returns the data itself if it has no more rows.
 * @throws ConfigError when `count` is not a positive integer.
 */
export function sliceCausal<D extends AnyLanguageData>(data: D, count: number, seed: number): D {
  assertArgument('data', data, encodedRows);
  assertArgument('count', count, integerFrom(1));
  if (count >= data.rows.length) return data;
  return withRows(data, drawRows(data.rows.length, count, { rng: createRng(seed).fork('slice') }).drawn);
}

function withRows<D extends AnyLanguageData>(data: D, numbers: readonly number[]): D {
  const rows = numbers.map((row) => data.rows[row] as D['rows'][number]);
  return { ...data, rows, truncated: countTruncated(rows) };
}

function checkShare(share: number): void {
  if (share > 0 && share < 1) return;
  throw new ConfigError(`expected the share to lie between 0 and 1, got ${share}`, 'share');
}

/** How rows are drawn. */
interface Drawing {
  readonly rng: Rng;
  /** The stratum of a row. Default: one stratum. */
  readonly stratumOf?: (row: number) => string | number;
  /** Rows with the same key are drawn together. Default: each row alone. */
  readonly keyOf?: (row: number) => unknown;
}

/** The numbers of the rows that were drawn, and of the others, ascending. */
interface Drawn {
  readonly drawn: readonly number[];
  readonly rest: readonly number[];
}

/** Draws a share of the rows: at least one. @throws DataError, with the reason `refusal`, when all are on one side. */
function drawShare(
  { name, rows: { length } }: { readonly name: string; readonly rows: readonly unknown[] },
  share: number,
  drawing: Drawing,
  refusal: string,
): Drawn {
  const found = drawRows(length, Math.max(1, Math.round(share * length)), drawing);
  if (found.drawn.length > 0 && found.rest.length > 0) return found;
  throw new DataError(`${name}: expected enough rows to ${refusal}`, name);
}

/**
 * Draws `count` of the rows without replacement, from each stratum in proportion to its rows. Rows of one key that no
 * longer fit are skipped; if this leaves a gap, the smallest skipped group is added when that misses the count by less.
 */
export function drawRows(
  rows: number,
  count: number,
  { rng, stratumOf = () => 0, keyOf = (row) => row }: Drawing,
): Drawn {
  const all = Array.from({ length: rows }, (_, row) => row);
  const units = [...grouped(all, keyOf).values()];
  const strata = [...grouped(units, ([first]) => stratumOf(first)).values()];
  const quotas = proportionalQuotas(
    strata.map((own) => own.flat().length),
    count,
  );
  const drawn = strata.flatMap((stratum, index) => fill(stratum, quotas[index] ?? 0, rng));
  const chosen = new Set(drawn);
  return { drawn: drawn.sort((a, b) => a - b), rest: all.filter((row) => !chosen.has(row)) };
}

/** Divides `total` in proportion to the sizes, in whole numbers, by the largest-remainder method. */
function proportionalQuotas(sizes: readonly number[], total: number): number[] {
  const sum = sizes.reduce((before, size) => before + size, 0);
  const exact = sizes.map((size) => (size * total) / sum);
  const quotas = exact.map(Math.floor);
  const remainder = (index: number) => (exact[index] as number) - (quotas[index] as number);
  const missing = total - quotas.reduce((before, quota) => before + quota, 0);
  const first = [...sizes.keys()].sort((a, b) => remainder(b) - remainder(a) || a - b).slice(0, missing);
  for (const index of first) quotas[index] = (quotas[index] as number) + 1;
  return quotas;
}

function fill(units: readonly (readonly number[])[], quota: number, rng: Rng): number[] {
  const chosen: number[] = [];
  let smallest: readonly number[] | undefined;
  for (const index of rng.permutation(units.length)) {
    const unit = units[index] as readonly number[];
    if (unit.length <= quota - chosen.length) for (const row of unit) chosen.push(row);
    else if (!smallest || unit.length < smallest.length) smallest = unit;
  }
  const gap = quota - chosen.length;
  return smallest && smallest.length - gap < gap ? [...chosen, ...smallest] : chosen;
}
