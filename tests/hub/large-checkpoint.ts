import { copyFile, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readSafetensors } from '@peftjs/safetensors';
import { bertFiles, bertFolder } from '../models/bert-tiny.js';

/** The larger sizes of the small BERT: 32 columns, 64 in the feed-forward layers and as many positions. */
const SIZES: Readonly<Record<number, number>> = { 32: 1152, 64: 4608 };

/** The bytes of its weights as float32. */
const BYTES = { F32: 4, BF16: 2 };

/**
 * Writes a BERT of about 200 MB as float32, tensor by tensor, with the values of a repeated pattern.
 * @returns the bytes of its weights as float32.
 */
export async function writeLargeCheckpoint(folder: string, dtype: keyof typeof BYTES): Promise<number> {
  await mkdir(folder, { recursive: true });
  const config = JSON.parse(await readFile(join(bertFolder, 'config.json'), 'utf8')) as object;
  const larger = {
    ...config,
    hidden_size: SIZES[32],
    intermediate_size: SIZES[64],
    max_position_embeddings: SIZES[64],
  };
  await writeFile(join(folder, 'config.json'), JSON.stringify(larger));
  await copyFile(join(bertFolder, 'tokenizer.json'), join(folder, 'tokenizer.json'));

  const tensors = [...readSafetensors(bertFiles['model.safetensors'] as Uint8Array)].map(
    ([name, { shape }]) => [name, shape.map((size) => SIZES[size] ?? size)] as const,
  );
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of tensors) {
    const begin = end;
    end += BYTES[dtype] * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  await writeTensors(join(folder, 'model.safetensors'), JSON.stringify(header), end);
  return (4 / BYTES[dtype]) * end;
}

/** Every byte is 60: 0.0115 as float32 and as bfloat16. */
async function writeTensors(path: string, header: string, bytes: number): Promise<void> {
  const file = await open(path, 'w');
  const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(padded.length));
  await file.write(prefix);
  await file.write(padded);
  const piece = new Uint8Array(2 ** 22).fill(60);
  for (let left = bytes; left > 0; left -= piece.length) await file.write(piece, 0, Math.min(left, piece.length));
  await file.close();
}
