import { memoryStorage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { modelFolder, type ModelFolder } from '../folder.js';
import { readManifest, readTensors } from './weights.js';

const weight = (name: string, shape: unknown, dtype = 'float32') => ({ name, shape, dtype });

function folderOf(weightsManifest: unknown, shards: Record<string, Uint8Array> = {}): ModelFolder {
  const manifest = new TextEncoder().encode(JSON.stringify({ weightsManifest }));
  return modelFolder('', memoryStorage(new Map([['model.json', manifest], ...Object.entries(shards)])));
}

const bytes = (values: Float32Array | Int32Array): Uint8Array => new Uint8Array(values.buffer);

describe('readTensors', () => {
  it('reads tensors across shards and groups', async () => {
    const folder = folderOf(
      [
        { paths: ['a', 'b'], weights: [weight('x', [2]), weight('y', [])] },
        { paths: ['c'], weights: [weight('n', [2, 1], 'int32')] },
      ],
      {
        a: bytes(Float32Array.of(1, 2)).slice(0, 6),
        b: bytes(Float32Array.of(1, 2, 3)).slice(6),
        c: bytes(Int32Array.of(-1, 7)),
      },
    );
    const tensors = await readTensors(folder, await readManifest(folder));
    expect([...tensors]).toEqual([
      ['x', { dtype: 'float32', shape: [2], data: Float32Array.of(1, 2) }],
      ['y', { dtype: 'float32', shape: [], data: Float32Array.of(3) }],
      ['n', { dtype: 'int32', shape: [2, 1], data: Int32Array.of(-1, 7) }],
    ]);
  });

  it('stops reading at the first extra byte', async () => {
    const folder = folderOf([{ paths: ['a', 'missing'], weights: [weight('x', [1])] }], { a: new Uint8Array(8) });
    await expect(readTensors(folder, await readManifest(folder))).rejects.toThrow(/^a: expected 4 bytes/);
  });
});

describe('readManifest', () => {
  const cases: [what: string, weightsManifest: unknown, message: RegExp][] = [
    ['a manifest that is no list', {}, /'weightsManifest' must be a list, got {}/],
    ['a group without shards', [{ weights: [] }], /'paths' must be a list, got nothing/],
    ['a group that is null', [null], /'paths' must be a list/],
    ['a path to the parent folder', [{ paths: ['..'], weights: [] }], /a shard must be a file beside it/],
    ['an absolute path', [{ paths: ['/etc/passwd'], weights: [] }], /a shard must be a file beside it/],
    ['a path with a backslash', [{ paths: ['a\\b'], weights: [] }], /a shard must be a file beside it/],
    ['a shard that is a number', [{ paths: [1], weights: [] }], /a shard must be a file beside it, got 1/],
    ['a tensor without a name', [{ paths: [], weights: [{}] }], /a tensor must have a name/],
    ['an unknown dtype', [{ paths: [], weights: [weight('x', [1], 'string')] }], /'x' must be plain float32/],
    ['a negative dimension', [{ paths: [], weights: [weight('x', [-1])] }], /'x' must have up to 8 dimensions/],
    ['a fractional dimension', [{ paths: [], weights: [weight('x', [1.5])] }], /'x' must have/],
    ['no shape', [{ paths: [], weights: [weight('x', null)] }], /'x' must have/],
    ['nine dimensions', [{ paths: [], weights: [weight('x', Array(9).fill(1))] }], /'x' must have/],
    ['a huge product', [{ paths: [], weights: [weight('x', Array(8).fill(2 ** 50))] }], /'x' must have/],
    ['a duplicate name', [{ paths: [], weights: [weight('x', [1]), weight('x', [1])] }], /the same name/],
    ['too many shards', [{ paths: Array(2001).fill('a'), weights: [] }], /at most 2000 shards, got 2001/],
    ['too many tensors', [{ paths: [], weights: Array(20_001).fill(weight('x', [])) }], /at most 20000 tensors/],
  ];

  it.each(cases)('rejects %s', async (_, weightsManifest, message) => {
    const error = await readManifest(folderOf(weightsManifest)).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as CheckpointError).message).toMatch(message);
  });
});
