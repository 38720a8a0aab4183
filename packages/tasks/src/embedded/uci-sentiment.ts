import { createRng, DataError } from '@peftjs/core';
import { createDataSet, type Row, selectRows } from '../data-set.js';
import { splitOff } from '../sampling.js';
import { decodeText } from '../table/decode.js';
import { type Task, taskOf } from '../task.js';
import { embeddedSeed, type ReadPackageFile } from './package-file.js';

const packageName = 'sentiment';
const sites = ['amazon', 'imdb', 'yelp'] as const;
const rowsPerSite = 1000;
const devRows = 600;

/** Sentences of product, film and restaurant reviews, 500 positive and 500 negative of each; the split keeps that balance. */
export async function loadUciSentiment(readPackageFile: ReadPackageFile): Promise<Task> {
  const rows: Row[] = [];
  for (const site of sites) {
    const path = `test/fixtures/${site}.json`;
    rows.push(...siteRows(await readPackageFile(packageName, path), `${packageName}/${path}`));
  }
  const name = 'uci-sentiment';
  const all = await createDataSet({ name, kind: 'classification', classes: ['negative', 'positive'], rows });
  const stratumOf = (row: number) => `${Math.floor(row / rowsPerSite)} ${(rows[row] as Row).label}`;
  const { drawn, rest } = splitOff(rows, devRows, { stratumOf, rng: createRng(embeddedSeed).fork(name) });
  return taskOf(name, await selectRows(all, rest, `${name}/train`), await selectRows(all, drawn, `${name}/dev`));
}

function siteRows(bytes: Uint8Array, path: string): Row[] {
  const entries = parseArray(decodeText(bytes, path), path);
  const rows = entries.slice(0, rowsPerSite).map((entry, index) => rowOf(entry, index, path));
  if (rows.length === rowsPerSite && entries.slice(rowsPerSite).every(isStub)) return rows;
  throw new DataError(`${path}: expected ${rowsPerSite} labelled sentences, got ${entries.length} entries`, path);
}

function parseArray(text: string, path: string): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return value;
  } catch (cause) {
    throw new DataError(`${path}: expected JSON, got something else; is the package whole?`, path, cause);
  }
  throw new DataError(`${path}: expected a JSON array of sentences, got another value`, path);
}

function rowOf(entry: unknown, index: number, path: string): Row {
  const { text, class: label } = fieldsOf(entry);
  if (typeof text === 'string' && text.trim() && (label === 0 || label === 1)) return { text: text.trim(), label };
  throw new DataError(`${path}: expected entry ${index} to have a text and the class 0 or 1`, path);
}

/** The files end in an entry without text and class. */
function isStub(entry: unknown): boolean {
  const { text, class: label } = fieldsOf(entry);
  return text === '' && label === null;
}

function fieldsOf(entry: unknown): { text?: unknown; class?: unknown } {
  return entry !== null && typeof entry === 'object' ? entry : {};
}
