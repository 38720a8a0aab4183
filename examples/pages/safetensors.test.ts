// Code blocks of safetensors' README.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import {
  openSafetensors,
  openSharded,
  readSafetensors,
  toFloat32,
  writeSafetensors,
  type OpenSource,
} from '@peftjs/safetensors';
import { expect, it, onTestFinished } from 'vitest';
import { heard, useFolder } from './surroundings.js';

useFolder();

const halves = writeSafetensors({
  'encoder.weight': { dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc000) }, // 1, -2
});

it('files, in memory and on disk', async () => {
  const log = heard('log');
  await writeFile('model.safetensors', halves);
  // A file in memory: every tensor.
  const bytes = writeSafetensors(
    { 'encoder.lora_A.weight': { dtype: 'F32', shape: [2, 3], data: new Float32Array(6) } },
    { format: 'pt' },
  );
  for (const [name, { dtype, shape, data }] of readSafetensors(bytes)) console.log(name, dtype, shape, data.length);

  // A file on disk: one tensor at a time.
  const file = await openSafetensors('model.safetensors');
  console.log(file.names, file.metadata, file.spec('encoder.weight'));
  const weight = toFloat32(await file.read('encoder.weight')); // F16, BF16 -> Float32Array, exactly
  await file.close();
  expect(log.mock.calls[0]).toEqual(['encoder.lora_A.weight', 'F32', [2, 3], 6]);
  expect(log).toHaveBeenCalledTimes(2);
  expect(weight).toEqual(Float32Array.of(1, -2));
});

it('a sharded model, from a folder and from a server', async () => {
  await mkdir('model');
  await writeFile('model/one.safetensors', halves);
  const index = { metadata: {}, weight_map: { 'encoder.weight': 'one.safetensors' } };
  await writeFile('model/model.safetensors.index.json', JSON.stringify(index));
  const server = createServer((request, response) => {
    void readFile(`model/${basename(request.url ?? '')}`).then((bytes) => response.end(bytes));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // #region sharded
  const model = await openSharded('model/model.safetensors.index.json');

  const fetched: OpenSource = async (url) => {
    const blob = await (await fetch(url)).blob();
    return {
      size: blob.size,
      read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
    };
  };
  const inPage = await openSharded(`${origin}/model/model.safetensors.index.json`, fetched);
  // #endregion sharded
  for (const each of [model, inPage]) {
    expect(toFloat32(await each.read('encoder.weight'))).toEqual(Float32Array.of(1, -2));
    await each.close();
  }
});
