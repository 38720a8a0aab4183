// Code blocks of gguf's README.
import { writeFile } from 'node:fs/promises';
import { fromFloat32, openGguf, toFloat32, writeGguf } from '@peftjs/gguf';
import { expect, it } from 'vitest';
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
