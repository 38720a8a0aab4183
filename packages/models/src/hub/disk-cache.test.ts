import * as crypto from 'node:crypto';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, it, vi } from 'vitest';
import { completeBlob } from './disk-cache.js';

/** A process ID that does not exist on this machine. */
const NO_PID = 2 ** 22 + 1;

const container = { namespace: 'pid:[1]' };
vi.spyOn(process.getBuiltinModule('node:fs/promises'), 'readlink').mockImplementation(() =>
  Promise.resolve(container.namespace),
);
afterAll(() => {
  vi.restoreAllMocks();
});

const content = new TextEncoder().encode('the weights');
const file = { path: 'w', size: content.length, hash: crypto.createHash('sha256').update(content).digest('hex') };
const modules = { fs, crypto };
const { pid } = process;

let folder: string;
beforeEach(async () => {
  folder = await fs.mkdtemp(join(tmpdir(), 'peftjs-blob-'));
});
afterEach(async () => {
  Object.defineProperty(process, 'pid', { value: pid });
  await fs.rm(folder, { recursive: true });
});

const missing = () => ({ repo: 'a/b', blob: join(folder, file.hash), file });

/** Leaves the files of a process that was killed in the middle of a download. */
async function leaveHalf(): Promise<void> {
  const half = content.slice(0, 4);
  await completeBlob(
    missing(),
    async (part) => {
      await part.append(half);
      const [own = ''] = await fs.readdir(folder);
      await fs.rename(join(folder, own), join(folder, 'kept'));
      await fs.writeFile(join(folder, 'name'), own);
      throw new Error('killed');
    },
    modules,
  ).catch(() => undefined);
  await fs.rename(join(folder, 'kept'), join(folder, await fs.readFile(join(folder, 'name'), 'utf8')));
}

it.each([
  ['resumes the download of a dead process of this container', 'pid:[1]', 4],
  ['does not touch the download of a process in another container', 'pid:[2]', 0],
])('%s', async (_, namespace, expected) => {
  container.namespace = namespace;
  Object.defineProperty(process, 'pid', { value: NO_PID });
  await leaveHalf();
  container.namespace = 'pid:[1]';
  Object.defineProperty(process, 'pid', { value: pid });
  let had = -1;
  await completeBlob(
    missing(),
    async (part) => {
      had = part.length;
      await part.append(content.slice(part.length));
    },
    modules,
  );
  expect(had).toBe(expected);
});

it('accepts the complete file of a faster process', async () => {
  await completeBlob(
    missing(),
    async (part) => {
      await part.append(content);
      const [own] = await fs.readdir(folder);
      await fs.rename(join(folder, own ?? ''), missing().blob);
    },
    modules,
  );
  expect(await fs.readFile(missing().blob, 'utf8')).toBe('the weights');
});
