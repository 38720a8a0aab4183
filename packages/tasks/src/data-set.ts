import { DataError } from '@peftjs/core/method';
import { assertArgument, objectLike, type DataKind } from '@peftjs/core/model';

/** Kinds whose rows have one label: a class or a number. */
export type LabelKind = 'classification' | 'regression';

/**
 * The kind of a task. For a text or a pair of texts: one of several classes, a number, or any number of labels. For a
 * sentence: a class for each word. For embeddings: the texts of a pair should be close together, or the first two of a
 * triplet, unlike its one or more negatives, or two texts as close as their score says.
 */
export type TaskKind = Exclude<DataKind, 'causal-lm' | 'preferences'>;

/** Every kind of task. */
export const taskKinds = [
  'classification',
  'regression',
  'multi-label',
  'token-classification',
  'pairs',
  'triplets',
  'scored-pairs',
] as const satisfies readonly TaskKind[];

/** A text or a pair of texts with one label. */
export interface Row {
  /** The text, or the first text of a pair. */
  readonly text: string;
  /** The second text of a pair. */
  readonly pair?: string;
  /** The index into the classes of the data set, or the target number. */
  readonly label: number;
}

/** A text or a pair of texts, with any number of labels. */
export interface MultiLabelRow extends Omit<Row, 'label'> {
  /** Indices into the classes of the data set, ascending; empty if the row has no label. */
  readonly labels: readonly number[];
}

/** A sentence as words, each with its tag. */
export interface TaggedRow {
  /** The words of the sentence. */
  readonly words: readonly string[];
  /** The tag of each word, as an index into the classes of the data set. */
  readonly tags: readonly number[];
}

/** Two texts that are embedded separately. */
export interface TextsRow {
  /** An anchor and its positive. */
  readonly texts: readonly [anchor: string, positive: string];
}

/** A pair and wrong answers, each embedded separately. */
export interface TripletRow {
  /** An anchor, its positive, and negatives: the same number in every row of a data set. */
  readonly texts: readonly [anchor: string, positive: string, negative: string, ...negatives: string[]];
}

/** Two texts and their similarity. */
export interface ScoredRow extends TextsRow {
  /** The similarity, from -1 to 1, as a cosine. */
  readonly score: number;
}

/** The rows of each kind of task. */
export interface RowsByKind {
  readonly classification: Row;
  readonly regression: Row;
  readonly 'multi-label': MultiLabelRow;
  readonly 'token-classification': TaggedRow;
  readonly pairs: TextsRow;
  readonly triplets: TripletRow;
  readonly 'scored-pairs': ScoredRow;
}

/** Rows of one kind, and the meaning of their labels. */
export interface DataSet<K extends TaskKind = TaskKind> {
  /** The name of the data set, for messages and reports. */
  readonly name: string;
  /** The kind of its rows. */
  readonly kind: K;
  /** The names of the classes, labels or tags by their number; empty for kinds without classes. */
  readonly classes: readonly string[];
  /** The rows. */
  readonly rows: readonly RowsByKind[K][];
  /** SHA-256, in hexadecimal, of the kind, the classes and the rows. */
  readonly fingerprint: string;
}

/** A schema for data sets. */
export const aDataSet = objectLike<DataSet>('a data set, e.g. of createDataSet: await it', {
  kind: 'string',
  classes: 'list',
  rows: 'list',
});

/** A row whose texts are not counted yet. */
type Uncounted<R> = R extends { readonly texts: readonly string[] }
  ? Omit<R, 'texts'> & { readonly texts: readonly string[] }
  : R;

/** A row that `createDataSet` takes: its texts may be any list. */
export type GivenRow<K extends TaskKind> = RowsByKind[K] | Uncounted<RowsByKind[K]>;

/**
 * Creates a data set and computes the fingerprint of its content.
 * @throws DataError when rows of texts have too few of them, or not all the same number.
 */
export async function createDataSet<K extends TaskKind>(
  content: Omit<DataSet<K>, 'fingerprint' | 'rows'> & { readonly rows: readonly GivenRow<K>[] },
): Promise<DataSet<K>> {
  assertArgument('content', content, aDataSet);
  const { name, kind, classes } = content;
  const rows = counted(name, kind, content.rows);
  return { ...content, rows, fingerprint: await fingerprintOf([kind, classes, rows.length], rows.map(entryOf)) };
}

/** Returns the rows. @throws DataError for a row of texts that is not as long as the first, or as its kind needs. */
function counted<K extends TaskKind>(name: string, kind: K, given: readonly GivenRow<K>[]): DataSet<K>['rows'] {
  const rows = given as DataSet<K>['rows'];
  const counts = rows.map((row) => ('texts' in row ? row.texts.length : undefined));
  const [first = 0] = counts;
  const expected = kind === 'triplets' ? Math.max(3, first) : 2;
  const odd = counts.findIndex((count) => count !== undefined && count !== expected);
  if (odd < 0) return rows;
  const what = kind === 'triplets' ? 'an anchor, its positive and the same number of negatives in every row' : 'two';
  throw new DataError(`${name}: expected ${expected} texts in row ${odd + 1} (${what}), got ${counts[odd]}`, name);
}

/** The parts of a row that the fingerprint covers. */
function entryOf(row: RowsByKind[TaskKind]): readonly unknown[] {
  if ('label' in row) return [row.text, row.pair ?? null, row.label];
  if ('labels' in row) return [row.text, row.pair ?? null, row.labels];
  if ('words' in row) return [row.words, row.tags];
  return 'score' in row ? [row.texts, row.score] : [row.texts];
}

/** A key for all texts of a row: rows with the same texts are always on the same side of a split. */
export function textsKey(row: RowsByKind[TaskKind]): string {
  if ('words' in row) return JSON.stringify(row.words);
  return JSON.stringify('texts' in row ? row.texts : [row.text, row.pair]);
}

/** Creates a data set from the rows with these numbers, in this order. */
export function selectRows<K extends TaskKind>(
  dataSet: DataSet<K>,
  numbers: readonly number[],
  name: string,
): Promise<DataSet<K>> {
  const { kind, classes, rows } = dataSet;
  return createDataSet({ name, kind, classes, rows: numbers.map((number) => rows[number] as RowsByKind[K]) });
}

/**
 * The most rows, and the most characters, that are hashed at a time: the JSON of a large file may not fit into one
 * string.
 */
const blockRows = 1024;
const blockCharacters = 2 ** 26;

/** SHA-256, in hexadecimal, of the digests of the shared content and of blocks of rows, each as JSON. */
export async function fingerprintOf(shared: readonly unknown[], rows: readonly unknown[]): Promise<string> {
  const digests = [await sha256(JSON.stringify(shared))];
  let block: string[] = [];
  let characters = 0;
  for (const row of rows) {
    const json = JSON.stringify(row);
    if (block.length === blockRows || (block.length > 0 && characters + json.length > blockCharacters)) {
      digests.push(await sha256(`[${block.join()}]`));
      block = [];
      characters = 0;
    }
    block.push(json);
    characters += json.length;
  }
  if (block.length > 0) digests.push(await sha256(`[${block.join()}]`));
  return sha256(digests.join());
}

/** SHA-256, in hexadecimal, of a text or bytes. */
export async function sha256(content: string | Uint8Array): Promise<string> {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const digest = await crypto.subtle.digest('SHA-256', bytes.slice());
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
