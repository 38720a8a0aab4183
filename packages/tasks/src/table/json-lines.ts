import { DataError } from '@peftjs/core';
import { columnNames, errorAt, excerpt, type Table, type TableRecord } from './table.js';

/** Longest line that is parsed, in characters. */
const maxLineLength = 1_000_000;

/** An object and the line it stands in. */
export interface JsonLine {
  readonly line: number;
  readonly object: object;
}

/**
 * One JSON object a line; the first one names the columns. A label may be a string, a number or a boolean.
 * @throws DataError for a line that is too long, is no JSON object, or has a value of another type.
 */
export function parseJsonLines(text: string, path: string): Table {
  const objects = jsonLines(text, path);
  const [first] = objects as [JsonLine, ...JsonLine[]];
  return {
    columns: Object.keys(first.object),
    line: first.line,
    records: objects.map(({ object, line }) => recordOf(object, line, path)),
  };
}

/**
 * The objects of a text with one in each line that is not blank.
 * @throws DataError for a line that is too long or no JSON object, or when there is none.
 */
export function jsonLines(text: string, path: string): JsonLine[] {
  const objects = text
    .split('\n')
    .map((content, index) => ({ content, line: index + 1 }))
    .filter(({ content }) => content.trim())
    .map(({ content, line }) => ({ line, object: parseObject(content, line, path) }));
  if (objects.length > 0) return objects;
  throw new DataError(`${path}: expected a JSON object in each line, got only blank lines`, path);
}

function parseObject(content: string, line: number, path: string): object {
  if (content.length > maxLineLength) {
    throw errorAt(path, line, `expected at most ${maxLineLength} characters in a line, got ${content.length}`);
  }
  const value = parseJson(content, line, path);
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value;
  throw errorAt(path, line, `expected a JSON object, got ${excerpt(content)}`);
}

function parseJson(content: string, line: number, path: string): unknown {
  try {
    return JSON.parse(content);
  } catch (cause) {
    throw errorAt(path, line, `expected a JSON object, got ${excerpt(content)}, which is not JSON`, cause);
  }
}

function recordOf(object: object, line: number, path: string): TableRecord {
  const cells = new Map<string, string>();
  const values = new Map<string, unknown>(Object.entries(object));
  for (const name of columnNames) {
    const value = values.get(name);
    if (value !== undefined && value !== null) cells.set(name, cellOf(value, name, line, path));
  }
  return { line, cells };
}

function cellOf(value: unknown, name: string, line: number, path: string): string {
  if (typeof value === 'string') return value;
  if (name === 'label' && (typeof value === 'number' || typeof value === 'boolean')) return String(value);
  throw errorAt(path, line, `expected ${name} to be a string, got ${excerpt(JSON.stringify(value))}`);
}
