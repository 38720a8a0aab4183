import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bertFolder } from '../models/bert-tiny.js';

/** Writes a small task into a folder; returns the flags that train a tiny network on it. */
export async function tinyTask(folder: string, rows: number): Promise<string[]> {
  const file = async (name: string, count: number): Promise<string> => {
    const path = join(folder, name);
    const lines = Array.from({ length: count }, (_, row) =>
      row % 2 === 0 ? `good\ta cat is number ${row}` : `bad\ta dog is number ${row}`,
    );
    await writeFile(path, ['label\ttext', ...lines].join('\n'));
    return path;
  };
  const files = ['--train', await file('train.tsv', rows), '--dev', await file('dev.tsv', 16)];
  return ['--preset', 'smoke', '--model', bertFolder, '--batch-size', '8', '--budget', 'r=2', ...files];
}
