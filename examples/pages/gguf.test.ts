// Code blocks of gguf's README, and those on GGUF files of the page on export.
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attach } from '@peftjs/core';
import { fromFloat32, openGguf, toFloat32, writeGguf } from '@peftjs/gguf';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveGguf, saveGgufAdapter } from '@peftjs/models';
import { expect, it } from 'vitest';
import { root } from '../../tests/workspace/repository.js';
import { heard, useFolder } from './surroundings.js';

useFolder();

it('gguf writes a file and opens it', async () => {
  const log = heard('log');
  // #region gguf
  const weight = fromFloat32('Q8_0', [2, 32], new Float32Array(64).fill(0.5)); // 34 bytes for 32 numbers
  const bytes = writeGguf(
    { 'blk.0.attn_q.weight': weight },
    { 'general.architecture': { type: 'string', value: 'llama' } },
  );
  await writeFile('model.gguf', bytes);

  const file = await openGguf('model.gguf'); // reads only the header
  console.log(file.names, file.metadata.get('general.architecture')?.value);
  console.log(toFloat32(await file.read('blk.0.attn_q.weight'))); // one tensor, as float32
  await file.close();
  // #endregion gguf
  expect(log.mock.calls[0]).toEqual([['blk.0.attn_q.weight'], 'llama']);
  expect((log.mock.calls[1]?.[0] as Float32Array).every((value) => Math.abs(value - 0.5) < 1e-3)).toBe(true);
});

it('models writes an adapter and a model', async () => {
  await copyFile(join(root, 'tests/models/fixtures/gguf/llama.gguf'), 'base.gguf');
  const peft = attach(await fromPretrained('base.gguf', { task: 'causal-lm' }), lora({ r: 2 }));
  // #region export
  await saveGgufAdapter(peft, 'adapter.gguf'); // a LoRA beside the GGUF file of the base model
  await saveGguf(peft, 'model.gguf', { dtype: 'q8' }); // the merged model with its tokenizer
  // #endregion export
  for (const name of ['adapter.gguf', 'model.gguf']) await (await openGguf(name)).close();
  expect((await fromPretrained('model.gguf', { task: 'causal-lm' })).tokenizer.tokenIds('AB')).toHaveLength(1);
});
