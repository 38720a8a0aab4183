import { DataError } from '@peftjs/core';

/** Bytes of Thrift's compact protocol, and where the next one is. */
export interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
}

/** Most structures and lists inside one another: the footer of a Parquet file has fewer than ten. */
const maxDepth = 16;

/** Most bytes of a number: ten hold 64 bits. */
const maxNumberBytes = 10;

/** What a field or an element of a list is. */
const types = {
  stop: 0,
  true: 1,
  false: 2,
  byte: 3,
  i16: 4,
  i32: 5,
  i64: 6,
  double: 7,
  binary: 8,
  list: 9,
  struct: 12,
};

/**
 * Walks over a structure without keeping anything, and leaves the cursor behind it: who builds it up afterwards meets no list longer
 * than the bytes that are left, and no nesting without end.
 * @throws DataError for a structure that is cut off, or of a form that Parquet does not have
 */
export function skipStruct(cursor: Cursor, path: string, depth = 0): void {
  if (depth > maxDepth) throw broken(path, `at most ${maxDepth} structures inside one another, got more`);
  for (let field = byteOf(cursor, path); field % 16 !== types.stop; field = byteOf(cursor, path)) {
    if (field < 16) skipNumber(cursor, path); // the field's own number, where it does not follow from the last
    const type = field % 16;
    if (type !== types.true && type !== types.false) skipValue(cursor, type, path, depth);
  }
}

function skipValue(cursor: Cursor, type: number, path: string, depth: number): void {
  if (type === types.stop) throw broken(path, 'a value, got the end of a structure');
  else if (type <= types.byte) cursor.at += 1;
  else if (type <= types.i64) skipNumber(cursor, path);
  else if (type === types.double) cursor.at += 8;
  else if (type === types.binary) skipBytes(cursor, path);
  else if (type === types.list) skipList(cursor, path, depth + 1);
  else if (type === types.struct) skipStruct(cursor, path, depth + 1);
  else throw broken(path, `a type that Parquet has, got ${type}`);
}

function skipBytes(cursor: Cursor, path: string): void {
  const length = lengthOf(cursor, path);
  cursor.at += length;
}

function skipList(cursor: Cursor, path: string, depth: number): void {
  if (depth > maxDepth) throw broken(path, `at most ${maxDepth} lists inside one another, got more`);
  const head = byteOf(cursor, path);
  const short = Math.floor(head / 16);
  const length = short === 15 ? lengthOf(cursor, path) : short;
  for (let element = 0; element < length; element++) {
    skipValue(cursor, head % 16, path, depth);
    if (cursor.at > cursor.bytes.length) throw broken(path, 'a list to end before the bytes do');
  }
}

/** A number of bytes or elements, of which there are no more than bytes. */
function lengthOf(cursor: Cursor, path: string): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 35; scale *= 128) {
    const byte = byteOf(cursor, path);
    value += (byte % 128) * scale;
    if (byte < 128) break;
  }
  if (value <= cursor.bytes.length - cursor.at) return value;
  throw broken(path, `at most ${cursor.bytes.length - cursor.at} bytes or elements, got ${value}`);
}

function skipNumber(cursor: Cursor, path: string): void {
  for (let count = 1; byteOf(cursor, path) >= 128; count++) {
    if (count === maxNumberBytes) throw broken(path, `numbers of at most ${maxNumberBytes} bytes, got more`);
  }
}

function byteOf(cursor: Cursor, path: string): number {
  const byte = cursor.bytes[cursor.at++];
  if (byte === undefined) throw broken(path, 'a structure to end before the bytes do');
  return byte;
}

function broken(path: string, expected: string): DataError {
  return new DataError(`${path}: expected ${expected}; the file is broken`, path);
}
