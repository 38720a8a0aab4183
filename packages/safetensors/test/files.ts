import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { DType } from '@peftjs/safetensors';

interface ExpectedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The elements in hexadecimal. */
  readonly bytes: string;
  /** The float32 values of a floating-point tensor, in hexadecimal. */
  readonly float32?: string;
}

interface Expected {
  readonly files: Readonly<Record<string, Readonly<Record<string, ExpectedTensor>>>>;
  readonly float32OfAllPatterns: { readonly F16: string; readonly BF16: string };
}

/** The content of the golden files according to the Python library. */
export const expected = JSON.parse(golden('expected.json').toString()) as Expected;

/** Returns the path of a golden file. */
export function goldenPath(name: string): string {
  return fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
}

/** Reads a golden file. */
export function golden(name: string): Buffer {
  return readFileSync(goldenPath(name));
}

/** Builds a file from its header and its data. */
export function fileOf(
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(),
  announced?: bigint,
): Uint8Array<ArrayBuffer> {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + json.length + data.length);
  new DataView(file.buffer).setBigUint64(0, announced ?? BigInt(json.length), true);
  file.set(json, 8);
  file.set(data, 8 + json.length);
  return file;
}

/** Returns the bytes of a typed array in hexadecimal. */
export function hex(array: ArrayBufferView): string {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex');
}
