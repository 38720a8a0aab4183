import { DataError } from '@peftjs/core/method';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import {
  createDataSet,
  type DataSet,
  type EncodedData,
  type ReadPackageFile,
  type Tokenizer,
  type LabelKind,
} from '@peftjs/tasks';

const { resolve } = createRequire(import.meta.url);

/** Reads files of installed packages. */
export const readInstalled: ReadPackageFile = (packageName, path) =>
  readFile(join(dirname(resolve(`${packageName}/package.json`)), path));

/** The bytes of a file in `fixtures/`. */
export const fixture = async (path: string): Promise<Uint8Array> =>
  new Uint8Array(await readFile(new URL(`fixtures/${path}`, import.meta.url)));

/** The folder of fixtures, for functions that read folders. */
export const fixtureFolder = fileURLToPath(new URL('fixtures', import.meta.url));

export const bytesOf = (text: string) => new TextEncoder().encode(text);

/** A tokenizer of lower-case words and punctuation, numbered in order of appearance. */
export function wordTokenizer(): Tokenizer {
  const numbers = new Map<string, number>();
  const number = (word: string) => {
    const known = numbers.get(word) ?? numbers.size + 1;
    numbers.set(word, known);
    return known;
  };
  const words = (text: string) => text.toLowerCase().match(/\w+|[^\w\s]/g) ?? [];
  return {
    encode(text, pair) {
      const [first, second] = [words(text), pair === undefined ? [] : words(pair)];
      const ids = [...first, ...second].map(number);
      return pair === undefined ? { ids } : { ids, typeIds: ids.map((_, at) => (at < first.length ? 0 : 1)) };
    },
  };
}

/** Encoded rows of the given lengths; the tokens of a row are its number. */
export function encodedRows(
  lengths: readonly number[],
  kind: EncodedData<LabelKind>['kind'] = 'classification',
): EncodedData<LabelKind> {
  return {
    name: 'lengths',
    kind,
    classes: ['a', 'b'],
    rows: lengths.map((length, row) => ({ ids: new Int32Array(length).fill(row + 1), label: row % 2 })),
    maxTokens: 512,
    truncated: 0,
  };
}

export function classified(
  labels: readonly number[],
  textOf = (row: number) => `text ${row}`,
): Promise<DataSet<LabelKind>> {
  const rows = labels.map((label, row) => ({ text: textOf(row), label }));
  return createDataSet({ name: 'rows', kind: 'classification', classes: ['a', 'b', 'c'], rows });
}

/** Expects a DataError with one line that contains all of `parts`. */
export async function expectDataError(work: Promise<unknown>, ...parts: string[]): Promise<void> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DataError);
  const { message } = error as DataError;
  for (const part of parts) expect(message).toContain(part);
  expect(message).not.toContain('\n');
}
