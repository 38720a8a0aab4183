import { DataError } from '@peftjs/core';
import { errorAt } from './table.js';

/** Largest file that is read: its text must fit one string. */
const maxFileBytes = 500_000_000;

/**
 * The text of a UTF-8 file, without byte order mark and with `\n` line ends.
 * @throws DataError for a file that is empty, too large or not UTF-8.
 */
export function decodeText(bytes: Uint8Array, path: string): string {
  if (bytes.length > maxFileBytes) {
    throw new DataError(`${path}: expected at most ${maxFileBytes} bytes, got ${bytes.length}; use a part of it`, path);
  }
  const text = decodeUtf8(bytes, path).replaceAll('\r\n', '\n');
  if (!text.trim()) throw new DataError(`${path}: expected a table, got an empty file`, path);
  return text;
}

function decodeUtf8(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw errorAt(path, firstBrokenLine(bytes), 'expected UTF-8 text, got other bytes; save the file as UTF-8', cause);
  }
}

/** The first line that is no UTF-8 by itself: line ends are never part of a longer sequence. */
function firstBrokenLine(bytes: Uint8Array): number {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const end = bytes.indexOf(0x0a, start);
    const content = bytes.subarray(start, end === -1 ? bytes.length : end);
    if (!isUtf8(content)) return line;
    start += content.length + 1;
  }
  return line;
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}
