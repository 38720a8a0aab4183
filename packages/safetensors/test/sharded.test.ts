import { describe, expect, test } from 'vitest';
import {
  bytesSource,
  openSharded,
  readSafetensors,
  writeSafetensors,
  type ByteSource,
  type StoredTensor,
} from '@peftjs/safetensors';
import { golden, goldenPath } from './files.js';

const INDEX = 'model.safetensors.index.json';

/** Files in memory, and the number of open ones. */
function folderOf(files: Readonly<Record<string, string | Uint8Array>>) {
  const folder = {
    paths: [] as string[],
    left: 0,
    open(path: string): Promise<ByteSource> {
      const content = files[path];
      if (content === undefined) return Promise.reject(new RangeError(`404 for ${path}`));
      folder.paths.push(path);
      folder.left++;
      const close = () => {
        folder.left--;
        return Promise.resolve();
      };
      return Promise.resolve({ ...bytesSource(typeof content === 'string' ? Buffer.from(content) : content), close });
    },
  };
  return folder;
}

const one = (value: number): StoredTensor => ({ dtype: 'F32', shape: [], data: Float32Array.of(value) });
const indexOf = (weightMap: Record<string, string>) => JSON.stringify({ metadata: {}, weight_map: weightMap });

test('a model that Python wrote in two files reads like the single file', async () => {
  const model = await openSharded(goldenPath(`sharded/${INDEX}`));
  const whole = readSafetensors(golden('adapter.safetensors'));
  expect(new Set(model.names)).toEqual(new Set(whole.keys()));
  expect(model.metadata).toEqual({ format: 'pt' });
  for (const [name, tensor] of whole) {
    expect(model.spec(name)).toEqual({ dtype: tensor.dtype, shape: tensor.shape });
    expect(await model.read(name)).toEqual(tensor);
  }
  await model.close();
});

test('shards next to the index are opened once each and closed with the model', async () => {
  const folder = folderOf({
    [`https://host/m/${INDEX}`]: indexOf({ a: 'x.safetensors', b: 'y.safetensors', c: 'x.safetensors' }),
    'https://host/m/x.safetensors': writeSafetensors({ a: one(1), c: one(3) }, { from: 'x' }),
    'https://host/m/y.safetensors': writeSafetensors({ b: one(2), unlisted: one(4) }, { also: 'y' }),
  });
  const model = await openSharded(`https://host/m/${INDEX}`, (path) => folder.open(path));
  expect(folder.paths).toEqual([
    `https://host/m/${INDEX}`,
    'https://host/m/x.safetensors',
    'https://host/m/y.safetensors',
  ]);
  expect(model.names).toEqual(['a', 'c', 'b']);
  expect(model.metadata).toEqual({ from: 'x', also: 'y' });
  expect((await model.read('c')).data).toEqual(Float32Array.of(3));
  await expect(model.read('unlisted')).rejects.toThrow(/no tensor 'unlisted' among 3/);
  expect(folder.left).toBe(2);
  await model.close();
  expect(folder.left).toBe(0);
});

describe('a shard outside the folder is rejected', () => {
  test.each([
    '../x.safetensors',
    '..\\x.safetensors',
    '/etc/x.safetensors',
    'sub/x.safetensors',
    'C:x.safetensors',
    'file:x.safetensors',
    '%2e%2e%2fx.safetensors',
    'x.safetensors?y.safetensors',
    'x\u0000.safetensors',
    'x.safetensors\n',
    '..safetensors',
    '.safetensors',
    '..',
    '',
    'x.bin',
    `${'x'.repeat(300)}.safetensors`,
  ])('%j', async (shard) => {
    const folder = folderOf({ [INDEX]: indexOf({ a: shard }) });
    const opening = openSharded(INDEX, (path) => folder.open(path));
    await expect(opening).rejects.toMatchObject({ code: 'PEFT_SAFETENSORS', path: 'a' });
    expect(folder.paths).toEqual([INDEX]);
    expect(folder.left).toBe(0);
  });
});

describe('a broken model names the error and leaves no file open', () => {
  const good = writeSafetensors({ a: one(1) });
  const x = 'x.safetensors';
  test.each<[string, Record<string, string | Uint8Array>, RegExp, string]>([
    ['a missing index', {}, /404 for model/, INDEX],
    ['an index that is not JSON', { [INDEX]: 'oops' }, /index.json: index is not valid JSON/, INDEX],
    ['an index without weight_map', { [INDEX]: '{}' }, /'weight_map'/, 'weight_map'],
    ['a weight_map of numbers', { [INDEX]: '{"weight_map":{"a":1}}' }, /'a' is listed in '1', expected/, 'a'],
    ['a tensor listed twice', { [INDEX]: `{"weight_map":{"a":"${x}","a":"${x}"}}` }, /'a' appears twice/, 'a'],
    ['an index nested too deep', { [INDEX]: `{"x":${'['.repeat(99)}` }, /nested more than 32 deep/, 'x'],
    ['a missing shard', { [INDEX]: indexOf({ a: x, b: 'y.safetensors' }), [x]: good }, /404 for y/, 'y.safetensors'],
    ['a broken shard', { [INDEX]: indexOf({ a: x }), [x]: new Uint8Array(9) }, /x.safetensors: the header/, x],
    [
      'a tensor missing in its shard',
      { [INDEX]: indexOf({ b: x }), [x]: good },
      /x.safetensors: there is no tensor 'b'/,
      'b',
    ],
    [
      'too many shards',
      { [INDEX]: indexOf(Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`t${i}`, `${i}.safetensors`]))) },
      /at most 1024 files/,
      'weight_map',
    ],
  ])('%s', async (_, files, says, at) => {
    const folder = folderOf(files);
    const opening = openSharded(INDEX, (path) => folder.open(path));
    await expect(opening).rejects.toMatchObject({ code: 'PEFT_SAFETENSORS', path: at });
    await expect(opening).rejects.toThrow(says);
    expect(folder.left).toBe(0);
  });
});
