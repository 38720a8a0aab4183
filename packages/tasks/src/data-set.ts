/** What a task asks for: one of several classes, or a number. */
export type TaskKind = 'classification' | 'regression';

/** A labelled text, or a labelled pair of texts. */
export interface Row {
  readonly text: string;
  readonly pair?: string;
  /** Index into the classes of its data set, or the target number. */
  readonly label: number;
}

/** Labelled rows and what their labels mean. */
export interface DataSet {
  readonly name: string;
  readonly kind: TaskKind;
  /** Class names by label; empty for regression. */
  readonly classes: readonly string[];
  readonly rows: readonly Row[];
  /** SHA-256, in hexadecimal, of everything above but the name. */
  readonly fingerprint: string;
}

/** A data set with the fingerprint of its content. */
export async function createDataSet(content: Omit<DataSet, 'fingerprint'>): Promise<DataSet> {
  const { kind, classes, rows } = content;
  const entries = rows.map(({ text, pair, label }) => [text, pair ?? null, label]);
  return { ...content, fingerprint: await fingerprintOf([kind, classes, rows.length], entries) };
}

/** The rows of a data set with these numbers, in this order, as a data set of their own. */
export function selectRows(dataSet: DataSet, numbers: readonly number[], name: string): Promise<DataSet> {
  const { kind, classes, rows } = dataSet;
  return createDataSet({ name, kind, classes, rows: numbers.map((number) => rows[number] as Row) });
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
