import { readFile } from 'node:fs/promises';
import { bytesSource } from '@peftjs/safetensors';
import { fromFloat32, openGguf, writeGguf, type GgufFile, type GgufTensor, type MetadataValue } from '@peftjs/gguf';

/** Returns a file of test/fixtures. */
export async function golden(name: string): Promise<Uint8Array> {
  return new Uint8Array(await readFile(new URL(`fixtures/${name}`, import.meta.url)));
}

/** Opens a file in memory. */
export function opened(bytes: Uint8Array): Promise<GgufFile> {
  return openGguf(bytesSource(bytes));
}

/** Reads every tensor of a file. */
export async function tensorsOf(file: GgufFile): Promise<Map<string, GgufTensor>> {
  const tensors = new Map<string, GgufTensor>();
  for (const name of file.names) tensors.set(name, await file.read(name));
  return tensors;
}

/** Every type of metadata, also those that Python does not write. */
export const metadata: Record<string, MetadataValue> = {
  'general.architecture': { type: 'string', value: 'llama' },
  flags: { type: 'array', of: 'bool', value: [true, false] },
  big: { type: 'uint64', value: 2n ** 64n - 1n },
  nested: {
    type: 'array',
    of: 'array',
    value: [
      { type: 'array', of: 'int8', value: Int8Array.of(-1, 2) },
      { type: 'array', of: 'string', value: ['a', 'ß'] },
    ],
  },
};

/** A small file. */
export function smallFile(): Uint8Array {
  const values = Float32Array.from({ length: 64 }, (_, i) => i - 20);
  const tensors = { a: fromFloat32('Q8_0', [2, 32], values), b: fromFloat32('F32', [3], values.subarray(0, 3)) };
  return writeGguf(tensors, metadata);
}
