import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zipArchive } from './zip-archive.js';
import { extractEntry, zipEntries, type ZipEntry } from './zip.js';

const files = [
  { name: 'tensorflow/deflated', content: Buffer.from('many times the same, '.repeat(5000)), method: 8 },
  { name: 'tensorflow/stored', content: randomBytes(3000), method: 0 },
  { name: 'tensorflow/empty', content: Buffer.alloc(0), method: 0 },
];

describe('a zip file', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peftjs-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const written = async (bytes: Buffer): Promise<string> => {
    const archive = join(folder, 'a.whl');
    await writeFile(archive, bytes);
    return archive;
  };

  it('gives its files back', async () => {
    const archive = await written(zipArchive(files));
    const entries = await zipEntries(archive);
    expect(entries.map(({ name, bytes }) => [name, bytes])).toEqual(files.map((f) => [f.name, f.content.length]));
    for (const [index, entry] of entries.entries()) {
      await extractEntry(archive, entry, join(folder, 'out'));
      expect((await readFile(join(folder, 'out'))).equals(files[index]?.content ?? Buffer.from('none'))).toBe(true);
    }
  });

  it('is none when it is something else, and is found out when it was cut', async () => {
    const whole = zipArchive(files);
    await expect(zipEntries(await written(Buffer.from('<html>')))).rejects.toThrow(/is no zip file/);
    await expect(zipEntries(await written(whole.subarray(0, -30)))).rejects.toThrow(/is no zip file/);
    await expect(zipEntries(await written(whole.subarray(100)))).rejects.toThrow(/cut short/);
    const broken = Buffer.from(whole);
    broken.writeUInt32LE(7, whole.lastIndexOf('PK\x01\x02'));
    await expect(zipEntries(await written(broken))).rejects.toThrow(/table of contents is broken/);
  });

  it('refuses other ways of packing, and files of another length', async () => {
    const odd = await written(zipArchive([{ name: 'odd', content: Buffer.from('x'), method: 14 }]));
    await expect(zipEntries(odd)).rejects.toThrow(/'odd' is packed by method 14/);
    const archive = await written(zipArchive(files));
    const [entry] = await zipEntries(archive);
    const longer: ZipEntry = { ...(entry as ZipEntry), bytes: 1 };
    await expect(extractEntry(archive, longer, join(folder, 'out'))).rejects.toThrow(/expected 1$/);
  });
});
