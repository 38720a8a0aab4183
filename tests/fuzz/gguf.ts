import { readFileSync } from 'node:fs';
import { memoryStorage, PeftError } from '@peftjs/core';
import { createRng } from '@peftjs/core/method';
import { fromPretrained } from '@peftjs/models';
import { fromFloat32, GgufError, openGguf, toFloat32, writeGguf } from '@peftjs/gguf';
import { bytesSource } from '@peftjs/safetensors';

/** A file, and the number of bytes before its tensors, where most faults matter. */
interface Original {
  readonly bytes: Uint8Array;
  readonly header: number;
}

/** A small file with a tensor of blocks and every form of metadata. */
const small = writeGguf(
  {
    a: fromFloat32(
      'Q8_0',
      [2, 32],
      Float32Array.from({ length: 64 }, (_, i) => i - 20),
    ),
    b: fromFloat32('F32', [3], Float32Array.of(1, 2, 3)),
  },
  {
    'general.architecture': { type: 'string', value: 'llama' },
    'llama.block_count': { type: 'uint32', value: 2 },
    flags: { type: 'array', of: 'bool', value: [true, false] },
    tokens: { type: 'array', of: 'string', value: ['a', 'ß'] },
    nested: { type: 'array', of: 'array', value: [{ type: 'array', of: 'int8', value: Int8Array.of(-1, 2) }] },
  },
);

const original: Original = { bytes: small, header: 400 };

/** A model with a tokenizer of SentencePiece. */
const model: Original = {
  bytes: new Uint8Array(readFileSync(new URL('../models/fixtures/gguf/sentencepiece.gguf', import.meta.url))),
  header: 10_000,
};

/** Numbers that are often mistaken: counts, sizes and offsets. */
const NUMBERS = [
  0n,
  1n,
  2n ** 8n,
  2n ** 16n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 40n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** Returns the file with one to four random faults: bits, numbers, lost, repeated and missing bytes. */
function mutated(seed: number, { bytes: whole, header }: Original): Uint8Array {
  const rng = createRng(seed);
  const below = (end: number): number => Math.floor(rng.uniform() * end);
  let bytes = whole;
  for (let fault = below(4); fault >= 0; fault--) {
    const at = below(rng.uniform() < 0.8 ? Math.min(bytes.length, header) : bytes.length);
    const copy = bytes.slice();
    const kind = below(5);
    if (kind === 0) copy[at] = (copy[at] ?? 0) ^ (1 << below(8));
    if (kind === 1 && at + 8 <= copy.length) {
      new DataView(copy.buffer).setBigUint64(at, NUMBERS[below(NUMBERS.length)] as bigint, true);
    }
    if (kind === 2) copy.copyWithin(at, at + below(20));
    if (kind === 3) copy.copyWithin(at + below(20), at);
    bytes = kind === 4 && rng.uniform() < 0.3 ? copy.subarray(0, at) : copy;
  }
  return bytes;
}

/**
 * Reads all of a mutated file, or loads it as a model: 'read', or 'refused' with an error of the packages. Any other
 * error is thrown.
 */
export async function outcomeOf(seed: number): Promise<'read' | 'refused'> {
  try {
    if (seed % 2 === 0) await readAll(mutated(seed, original));
    else await load(mutated(seed, model));
    return 'read';
  } catch (error) {
    if (error instanceof GgufError || error instanceof PeftError) return 'refused';
    throw error;
  }
}

async function readAll(bytes: Uint8Array): Promise<void> {
  const file = await openGguf(bytesSource(bytes));
  for (const name of file.names) toFloat32(await file.read(name));
}

async function load(bytes: Uint8Array): Promise<void> {
  const storage = memoryStorage(new Map([['model.gguf', bytes]]));
  const { tokenizer } = await fromPretrained('model.gguf', { task: 'causal-lm', storage });
  tokenizer.decode(tokenizer.encode('A licence, text\n').ids);
}
