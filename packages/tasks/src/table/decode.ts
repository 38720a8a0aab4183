import { DataError } from '@peftjs/core';
import { errorAt } from './table.js';

/** Largest file that is read: its text must fit one string. */
const maxFileBytes = 500_000_000;

/**
 * The text of a UTF-8 file, without byte order mark and with `\n` line ends.
 * @throws DataError for a file that is empty, too large or not UTF-8.
 */
export function decodeText(bytes: Uint8Array, path: string): string {
  checkSize(bytes, path);
  return lines(decodeUtf8(bytes, path), path);
}

/**
 * The text of a Latin-1 file, each byte the code point of its number, with `\n` line ends. (`TextDecoder` reads Windows-1252 under
 * that name.)
 * @throws DataError for a file that is empty or too large.
 */
export function decodeLatin1(bytes: Uint8Array, path: string): string {
  checkSize(bytes, path);
  const blocks: string[] = [];
  for (let start = 0; start < bytes.length; start += 4096) {
    blocks.push(String.fromCharCode(...bytes.subarray(start, start + 4096)));
  }
  return lines(blocks.join(''), path);
}

function lines(content: string, path: string): string {
  const text = content.replaceAll('\r\n', '\n');
  if (text.trim()) return text;
  throw new DataError(`${path}: expected text, got an empty file`, path);
}

/** @throws DataError for a file beyond the bound. */
export function checkSize(bytes: Uint8Array, path: string): void {
  if (bytes.length <= maxFileBytes) return;
  throw new DataError(`${path}: expected at most ${maxFileBytes} bytes, got ${bytes.length}; use a part of it`, path);
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
