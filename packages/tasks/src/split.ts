import {
  anInteger,
  anything,
  assertArgument,
  ConfigError,
  createRng,
  DataError,
  parseOptions,
  type Rng,
} from '@peftjs/core/method';
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
import { type CausalData, type CausalRow, countTruncated } from './encode-language.js';
import { checkPositive } from './encode.js';
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
  if (!Number.isInteger(count) || count < 1) {
    throw new ConfigError(`expected the number of rows to be a positive integer, got ${count}`, 'count');
  }
  if (count >= dataSet.rows.length) return dataSet;
  const stratumOf = stratumByLabel(dataSet);
  const units = dataSet.rows.map((_, row) => ({ stratum: stratumOf(row), rows: [row] }));
  return selectRows(dataSet, drawRows(units, count, createRng(seed).fork('slice')), dataSet.name);
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
  const units = rows.map((_, row) => ({ stratum: stratumOf(row), rows: [row] }));
  const drawn = new Set(drawRows(units, Math.round(share * rows.length), rng));
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
 * Holds out a tenth of the rows of a language set to report results on: always the same rows, and equal rows on the
 * same side.
 * @throws DataError when one side would be empty, e.g. for a text file that is one document.
 */
export async function holdOutLanguage(set: LanguageSet): Promise<Record<'train' | 'dev', LanguageSet>> {
  const { name, rows } = set;
  const equal = grouped(rows.keys(), (row) => JSON.stringify(rows[row]));
  const units = Array.from(equal.values(), (members) => ({ stratum: 0, rows: members }));
  const count = Math.max(1, Math.round(DEV_SHARE * rows.length));
  const drawn = new Set(drawRows(units, count, createRng(DEV_SEED).fork('dev')));
  if (drawn.size === 0 || drawn.size === rows.length) {
    const way =
      'give a development file (--dev) or split the text into documents (--document-end); a table with labels must be named .tsv or .csv';
    throw new DataError(`${name}: expected enough rows to hold out a tenth, got ${rows.length}; ${way}`, name);
  }
  const part = (isDrawn: boolean) => rows.filter((_, row) => drawn.has(row) === isDrawn) as LanguageSet['rows'];
  return { train: await languageSet(name, part(false)), dev: await languageSet(`${name}/dev`, part(true)) };
}

async function setAside<K extends TaskKind>(
  dataSet: DataSet<K>,
  what: 'selection' | 'dev',
  share: number,
  rng: Rng,
): Promise<Record<'train' | 'aside', DataSet<K>>> {
  checkShare(share);
  const { name, rows } = dataSet;
  const count = Math.max(1, Math.round(share * rows.length));
  const { drawn, rest } = splitOff(rows, count, { stratumOf: stratumByLabel(dataSet), rng });
  if (drawn.length === 0 || rest.length === 0) {
    const found = `${rows.length} rows, too few or too similar`;
    throw new DataError(`${name}: expected enough rows to set a share of ${share} aside, got ${found}`, name);
  }
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
  const gone = lost.map((label) => `every row of ${JSON.stringify(label)}`).join(', ');
  throw new DataError(
    `${name}: expected two classes to train on, got only ${JSON.stringify(classes[left])}: of ${rows.length} rows, ${what} takes ${gone}; add rows`,
    name,
  );
}

/** Classes are strata; numbers are not. */
function stratumByLabel({ kind, rows }: DataSet<TaskKind>): (row: number) => number {
  return kind === 'classification' ? (row) => (rows[row] as Row).label : () => 0;
}

/** The rows of a language set, split in two. */
export interface CausalSplit {
  /** The rows to train on. */
  readonly train: CausalData;
  /** The rows that select a checkpoint. */
  readonly selection: CausalData;
}

/**
 * Sets a share of encoded rows aside for selecting checkpoints: drawn by the seed, with equal rows on the same side.
 * Default share 0.1.
 * @throws ConfigError for a share outside (0, 1), DataError when one side would be empty.
 */
export function splitCausal(
  data: CausalData,
  { share = 0.1, seed }: { readonly share?: number | undefined; readonly seed: number },
): CausalSplit {
  checkShare(share);
  const equal = grouped(data.rows.keys(), (row) => (data.rows[row] as CausalRow).ids.join());
  const units = Array.from(equal.values(), (rows) => ({ stratum: 0, rows }));
  const count = Math.max(1, Math.round(share * data.rows.length));
  const drawn = new Set(drawRows(units, count, createRng(seed).fork('selection')));
  const part = (chosen: boolean) => data.rows.filter((_, row) => drawn.has(row) === chosen);
  const [train, selection] = [part(false), part(true)];
  if (train.length === 0 || selection.length === 0) {
    const found = `${data.rows.length}, too few or too similar; give shorter rows or a separate file`;
    throw new DataError(`${data.name}: expected enough rows to set a share of ${share} aside, got ${found}`, data.name);
  }
  return {
    train: { ...withRows(data, train), name: `${data.name}/train` },
    selection: { ...withRows(data, selection), name: `${data.name}/selection` },
  };
}

/**
 * Draws `count` encoded rows by a seed, in their order. Returns the data itself if it has no more rows.
 * @throws ConfigError when `count` is not a positive integer.
 */
export function sliceCausal(data: CausalData, count: number, seed: number): CausalData {
  checkPositive('count', count);
  if (count >= data.rows.length) return data;
  const units = data.rows.map((_, row) => ({ stratum: 0, rows: [row] }));
  const drawn = drawRows(units, count, createRng(seed).fork('slice'));
  return withRows(
    data,
    drawn.map((row) => data.rows[row] as CausalRow),
  );
}

function withRows(data: CausalData, rows: readonly CausalRow[]): CausalData {
  return { ...data, rows, truncated: countTruncated(rows) };
}

function checkShare(share: number): void {
  if (share > 0 && share < 1) return;
  throw new ConfigError(`expected the share to lie between 0 and 1, got ${share}`, 'share');
}

/** Rows that are drawn together, and the stratum that they belong to. */
interface Unit {
  readonly stratum: string | number;
  readonly rows: readonly number[];
}

/**
 * Draws units without replacement, from each stratum in proportion to its rows. Units that no longer fit are skipped;
 * if this leaves a gap, the smallest skipped unit is added when that misses the count by less.
 * @returns row numbers, ascending
 */
function drawRows(units: readonly Unit[], count: number, rng: Rng): number[] {
  const strata = [...grouped(units, ({ stratum }) => stratum).values()];
  const quotas = proportionalQuotas(strata.map(sizeOf), count);
  const drawn = strata.flatMap((stratum, index) => fill(stratum, quotas[index] ?? 0, rng));
  return drawn.sort((a, b) => a - b);
}

/**
 * Draws `count` rows, stratified; rows with the same texts stay together.
 * @returns the row numbers of both sides, ascending
 */
export function splitOff(
  rows: readonly RowsByKind[TaskKind][],
  count: number,
  { stratumOf, rng }: { readonly stratumOf: (row: number) => string | number; readonly rng: Rng },
): { drawn: number[]; rest: number[] } {
  const sameTexts = grouped(rows.keys(), (row) => textsKey(rows[row] as RowsByKind[TaskKind]));
  const units = Array.from(sameTexts.values(), (members) => ({ stratum: stratumOf(members[0] ?? 0), rows: members }));
  const drawn = drawRows(units, count, rng);
  const chosen = new Set(drawn);
  return { drawn, rest: [...rows.keys()].filter((row) => !chosen.has(row)) };
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

function fill(units: readonly Unit[], quota: number, rng: Rng): number[] {
  const chosen: Unit[] = [];
  let gap = quota;
  let smallest: Unit | undefined;
  for (const index of rng.permutation(units.length)) {
    const unit = units[index] as Unit;
    if (unit.rows.length <= gap) {
      chosen.push(unit);
      gap -= unit.rows.length;
    } else if (!smallest || unit.rows.length < smallest.rows.length) {
      smallest = unit;
    }
  }
  if (smallest && smallest.rows.length - gap < gap) chosen.push(smallest);
  return chosen.flatMap(({ rows }) => rows);
}

function sizeOf(units: readonly Unit[]): number {
  return units.reduce((size, { rows }) => size + rows.length, 0);
}

/** Groups items by key; keys and items keep their order. */
export function grouped<K, T>(items: Iterable<T>, keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}
