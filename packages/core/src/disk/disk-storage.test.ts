import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CheckpointError } from '../errors.js';
import { memoryStorage } from '../storage.js';
import { diskStorage } from './disk-storage.js';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peftjs-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});

describe('diskStorage', () => {
  it('writes whole files into folders that it creates, and leaves no other files', async () => {
    const storage = diskStorage();
    await storage.write(`${folder}/a/b.bin`, Uint8Array.of(1, 2));
    await storage.write(`${folder}/a/b.bin`, Uint8Array.of(3));
    expect([...(await readFile(`${folder}/a/b.bin`))]).toEqual([3]);
    expect(await readdir(`${folder}/a`)).toEqual(['b.bin']);
    expect([...(await storage.read(`${folder}/a/b.bin`))]).toEqual([3]);
  });
  it('reads a file in pieces', async () => {
    await diskStorage().write(`${folder}/pieces`, Uint8Array.of(1, 2, 3, 4));
    const file = await diskStorage().open?.(`${folder}/pieces`);
    expect(file?.size).toBe(4);
    expect([...((await file?.read(1, 2)) ?? [])]).toEqual([2, 3]);
    await file?.close?.();
  });

  it('names the file that is missing or cannot be written', async () => {
    await expect(diskStorage().read(`${folder}/none`)).rejects.toThrow(CheckpointError);
    await diskStorage().write(`${folder}/file`, Uint8Array.of(1));
    await expect(diskStorage().write(`${folder}/file/inside`, Uint8Array.of(1))).rejects.toThrow(
      /cannot write .*file\/inside: E[A-Z]+: [^,']*$/,
    );
  });
});

describe('memoryStorage', () => {
  it('keeps copies', async () => {
    const storage = memoryStorage();
    const bytes = Uint8Array.of(1);
    await storage.write('x', bytes);
    bytes[0] = 9;
    expect([...(await storage.read('x'))]).toEqual([1]);
    expect(await storage.exists('y')).toBe(false);
    await expect(storage.read('y')).rejects.toThrow(CheckpointError);
  });
});
