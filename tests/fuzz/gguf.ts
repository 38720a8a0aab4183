import { readFileSync } from 'node:fs';
import { memoryStorage, PeftError } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import { fromFloat32, GgufError, openGguf, toFloat32, writeGguf } from '@peftjs/gguf';
import { bytesSource } from '@peftjs/safetensors';
import { mutated, type Original } from './mutated.js';

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

/** A file, and the number of bytes before its tensors, where most faults matter. */
function originalOf(bytes: Uint8Array, header: number): Original {
  return {
    bytes,
    faults: 4,
    place: (rng, length) => rng.integer(rng.uniform() < 0.8 ? Math.min(length, header) : length),
    spoil(copy, at, rng) {
      if (at + 8 > copy.length) return;
      new DataView(copy.buffer).setBigUint64(at, NUMBERS[rng.integer(NUMBERS.length)] as bigint, true);
    },
  };
}

const original = originalOf(small, 400);

/** A model with a tokenizer of SentencePiece. */
const model = originalOf(
  new Uint8Array(readFileSync(new URL('../models/fixtures/gguf/sentencepiece.gguf', import.meta.url))),
  10_000,
);

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
