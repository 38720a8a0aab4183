import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bertFolder } from '../models/bert-tiny.js';

/** A tokenizer with fewer tokens than BERT's. */
const words = {
  version: '1.0',
  added_tokens: [{ id: 0, content: '[PAD]', special: true }],
  pre_tokenizer: { type: 'Whitespace' },
  model: { type: 'WordLevel', unk_token: '[UNK]', vocab: { '[PAD]': 0, '[UNK]': 1, cat: 2, dog: 3, number: 4 } },
};

/** Writes a folder as transformers.js lays it out. */
export async function served(
  folder: string,
  graphs: Readonly<Record<string, Uint8Array>>,
  type = 'bert',
): Promise<void> {
  await mkdir(join(folder, 'onnx'), { recursive: true });
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(bertFolder, file), join(folder, file));
  if (type !== 'bert') {
    await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: type }));
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(words));
  }
  for (const [file, bytes] of Object.entries(graphs)) await writeFile(join(folder, `onnx/${file}`), bytes);
}
