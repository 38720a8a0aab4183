import type { DataKind } from '@peftjs/core/method';

/** Kinds whose rows have one label: a class, or a number. */
export type LabelKind = 'classification' | 'regression';

/**
 * What a task asks for. Of a text or a pair of texts: one of several classes, a number, or every label that holds. Of the words of a
 * sentence: a class for each. Of an embedding: that texts of a pair, or the first two of a triplet, lie close together, or two texts as close
 * as their score says.
 */
export type TaskKind = Exclude<DataKind, 'causal-lm'>;

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

/** A labelled text, or a labelled pair of texts. */
export interface Row {
  readonly text: string;
  readonly pair?: string;
  /** Index into the classes of its data set, or the target number. */
  readonly label: number;
}

/** A text, or a pair of texts, with any number of labels. */
export interface MultiLabelRow {
  readonly text: string;
  readonly pair?: string;
  /** Indices into the classes of its data set, ascending; none where no label holds. */
  readonly labels: readonly number[];
}

/** A sentence in words, each with its tag. */
export interface TaggedRow {
  readonly words: readonly string[];
  /** The tag of each word, as an index into the classes of its data set. */
  readonly tags: readonly number[];
}

/** Texts that are embedded each by itself: an anchor and its positive, and in triplets a negative. */
export interface TextsRow {
  readonly texts: readonly string[];
}

/** Two texts and how similar they are. */
export interface ScoredRow extends TextsRow {
  /** From -1 to 1, as a cosine. */
  readonly score: number;
}

/** The rows of each kind of task. */
export interface RowsByKind {
  readonly classification: Row;
  readonly regression: Row;
  readonly 'multi-label': MultiLabelRow;
  readonly 'token-classification': TaggedRow;
  readonly pairs: TextsRow;
  readonly triplets: TextsRow;
  readonly 'scored-pairs': ScoredRow;
}

/** Rows of one kind and what their labels mean. */
export interface DataSet<K extends TaskKind = TaskKind> {
  readonly name: string;
  readonly kind: K;
  /** Names of classes, labels or tags by their number; empty where rows have none. */
  readonly classes: readonly string[];
  readonly rows: readonly RowsByKind[K][];
  /** SHA-256, in hexadecimal, of everything above but the name. */
  readonly fingerprint: string;
}

/** A data set with the fingerprint of its content. */
export async function createDataSet<K extends TaskKind>(content: Omit<DataSet<K>, 'fingerprint'>): Promise<DataSet<K>> {
  const { kind, classes, rows } = content;
  return { ...content, fingerprint: await fingerprintOf([kind, classes, rows.length], rows.map(entryOf)) };
}

/** What the fingerprint has of a row. */
function entryOf(row: RowsByKind[TaskKind]): readonly unknown[] {
  if ('label' in row) return [row.text, row.pair ?? null, row.label];
  if ('labels' in row) return [row.text, row.pair ?? null, row.labels];
  if ('words' in row) return [row.words, row.tags];
  return 'score' in row ? [row.texts, row.score] : [row.texts];
}

/** Everything that a row has of text, in one key: rows with the same texts are never on two sides of a split. */
export function textsKey(row: RowsByKind[TaskKind]): string {
  if ('words' in row) return JSON.stringify(row.words);
  return JSON.stringify('texts' in row ? row.texts : [row.text, row.pair]);
}

/** The rows of a data set with these numbers, in this order, as a data set of their own. */
export function selectRows<K extends TaskKind>(
  dataSet: DataSet<K>,
  numbers: readonly number[],
  name: string,
): Promise<DataSet<K>> {
  const { kind, classes, rows } = dataSet;
  return createDataSet({ name, kind, classes, rows: numbers.map((number) => rows[number] as RowsByKind[K]) });
}

/** Rows hashed at a time, and their characters: the JSON of a large file, or of a few long rows, does not fit one string. */
const blockRows = 1024;
const blockCharacters = 2 ** 26;

/** SHA-256, in hexadecimal, of what all rows share and of each row, as JSON. */
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

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
