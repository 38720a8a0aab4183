import { randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { folderOfTest } from '../vitest/temporary-folder.js';
import { BuildError } from './build-error.js';
import { zipArchive } from './zip-archive.js';
import { openArchive } from './zip.js';

const files = [
  { name: 'tensorflow/deflated', content: Buffer.from('many times the same, '.repeat(5000)), compress: true },
  { name: 'tensorflow/stored', content: randomBytes(3000), compress: false },
  { name: 'tensorflow/empty', content: Buffer.alloc(0), compress: false },
];

/** Offsets of the compression method and the uncompressed size in an entry of the table of contents. */
const [METHOD, BYTES] = [10, 24];

describe('a zip file', () => {
  let folder = '';
  beforeEach(() => {
    folder = folderOfTest();
  });

  const opened = async (bytes: Buffer) => {
    const archive = join(folder, 'a.whl');
    await writeFile(archive, bytes);
    return openArchive(archive);
  };

  /** Unpacks all files of an archive. */
  const unpacked = async (bytes: Buffer): Promise<Buffer[]> => {
    const { entries, extract, close } = await opened(bytes);
    try {
      for (const [index, entry] of entries.entries()) await extract(entry, join(folder, String(index)));
      return await Promise.all(entries.map((_, index) => readFile(join(folder, String(index)))));
    } finally {
      close();
    }
  };

  /** Returns an archive of one file with a changed table of contents. */
  const changed = async (file: (typeof files)[number], change: (entry: Buffer) => void): Promise<Buffer> => {
    const bytes = await zipArchive([file]);
    change(bytes.subarray(bytes.lastIndexOf('PK\x01\x02')));
    return bytes;
  };

  const [deflated, stored] = files as [(typeof files)[number], (typeof files)[number]];

  it('returns its files', async () => {
    const bytes = await zipArchive(files);
    const { entries, close } = await opened(bytes);
    close();
    expect(entries.map(({ fileName, uncompressedSize }) => [fileName, uncompressedSize])).toEqual(
      files.map(({ name, content }) => [name, content.length]),
    );
    expect(await unpacked(bytes)).toEqual(files.map(({ content }) => content));
  });

  it('is rejected if it is another file, truncated or damaged', async () => {
    const whole = await zipArchive(files);
    const noArchive = /a\.whl: .*not a zip file, or file is truncated/;
    await expect(opened(Buffer.from('<html>'))).rejects.toThrow(noArchive);
    await expect(opened(whole.subarray(0, -30))).rejects.toThrow(noArchive);
    await expect(opened(whole.subarray(100))).rejects.toThrow(/a\.whl: /);
    await expect(opened(whole.subarray(100))).rejects.toThrow(BuildError);
    const broken = await changed(stored, (entry) => entry.writeUInt32LE(7, 0));
    await expect(opened(broken)).rejects.toThrow(/a\.whl: invalid central directory file header signature/);
  });

  it('rejects other compression methods, and files of another length', async () => {
    const odd = await changed(deflated, (entry) => entry.writeUInt16LE(14, METHOD));
    await expect(unpacked(odd)).rejects.toThrow(/'tensorflow\/deflated': unsupported compression method: 14/);
    const longer = await changed(deflated, (entry) => entry.writeUInt32LE(1, BYTES));
    await expect(unpacked(longer)).rejects.toThrow(/'tensorflow\/deflated': .*expected 1\./);
    const shorter = await changed(deflated, (entry) => entry.writeUInt32LE(2 ** 31, BYTES));
    await expect(unpacked(shorter)).rejects.toThrow(/'tensorflow\/deflated': .*expected 2147483648/);
    const other = await changed(stored, (entry) => entry.writeUInt32LE(1, BYTES));
    await expect(opened(other)).rejects.toThrow(/size mismatch for stored file/);
  });

  it('is not unpacked beyond the stated length', async () => {
    const bomb = { name: 'bomb', content: Buffer.alloc(5e7), compress: true };
    await expect(unpacked(await changed(bomb, (entry) => entry.writeUInt32LE(9, BYTES)))).rejects.toThrow(BuildError);
    expect((await readFile(join(folder, '0'))).length).toBeLessThan(1e6);
  });

  it('rejects damaged files', async () => {
    const damaged = await zipArchive([deflated]);
    damaged.fill(0xff, damaged.indexOf(deflated.name) + deflated.name.length, damaged.indexOf('PK\x01\x02'));
    await expect(unpacked(damaged)).rejects.toThrow(/'tensorflow\/deflated': invalid/);
    await expect(unpacked(damaged)).rejects.toThrow(BuildError);
  });

  it.each(['../../etc/passwd', '/etc/passwd', 'a/../../b', 'C:/windows', 'a\\..\\..\\b'])(
    'rejects %s, which leads out of the target folder',
    async (name) => {
      const harmless = 'x'.repeat(name.length);
      const archive = await zipArchive([{ name: harmless, content: Buffer.from('evil'), compress: false }]);
      const evil = Buffer.from(archive.toString('latin1').replaceAll(harmless, name), 'latin1');
      await expect(opened(evil)).rejects.toThrow(/a\.whl: (absolute|invalid relative) path: /);
      expect(await readdir(folder)).toEqual(['a.whl']);
    },
  );
});
