import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BuildError } from './build-error.js';
import { zipArchive } from './zip-archive.js';
import { openArchive } from './zip.js';

const files = [
  { name: 'tensorflow/deflated', content: Buffer.from('many times the same, '.repeat(5000)), compress: true },
  { name: 'tensorflow/stored', content: randomBytes(3000), compress: false },
  { name: 'tensorflow/empty', content: Buffer.alloc(0), compress: false },
];

/** Where an entry of the table of contents says how the file is packed, and how long it is. */
const [METHOD, BYTES] = [10, 24];

describe('a zip file', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peftjs-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  const opened = async (bytes: Buffer) => {
    const archive = join(folder, 'a.whl');
    await writeFile(archive, bytes);
    return openArchive(archive);
  };

  /** Unpacks all of an archive's files. */
  const unpacked = async (bytes: Buffer): Promise<Buffer[]> => {
    const { entries, extract, close } = await opened(bytes);
    try {
      for (const [index, entry] of entries.entries()) await extract(entry, join(folder, String(index)));
      return await Promise.all(entries.map((_, index) => readFile(join(folder, String(index)))));
    } finally {
      close();
    }
  };

  /** An archive of one file whose table of contents was changed. */
  const changed = async (file: (typeof files)[number], change: (entry: Buffer) => void): Promise<Buffer> => {
    const bytes = await zipArchive([file]);
    change(bytes.subarray(bytes.lastIndexOf('PK\x01\x02')));
    return bytes;
  };

  const [deflated, stored] = files as [(typeof files)[number], (typeof files)[number]];

  it('gives its files back', async () => {
    const bytes = await zipArchive(files);
    const { entries, close } = await opened(bytes);
    close();
    expect(entries.map(({ fileName, uncompressedSize }) => [fileName, uncompressedSize])).toEqual(
      files.map(({ name, content }) => [name, content.length]),
    );
    expect(await unpacked(bytes)).toEqual(files.map(({ content }) => content));
  });

  it('is none when it is something else, and is found out when it was cut', async () => {
    const whole = await zipArchive(files);
    const noArchive = /a\.whl: .*not a zip file, or file is truncated/;
    await expect(opened(Buffer.from('<html>'))).rejects.toThrow(noArchive);
    await expect(opened(whole.subarray(0, -30))).rejects.toThrow(noArchive);
    await expect(opened(whole.subarray(100))).rejects.toThrow(/a\.whl: /);
    await expect(opened(whole.subarray(100))).rejects.toThrow(BuildError);
    const broken = await changed(stored, (entry) => entry.writeUInt32LE(7, 0));
    await expect(opened(broken)).rejects.toThrow(/a\.whl: invalid central directory file header signature/);
  });

  it('refuses other ways of packing, and files of another length', async () => {
    const odd = await changed(deflated, (entry) => entry.writeUInt16LE(14, METHOD));
    await expect(unpacked(odd)).rejects.toThrow(/'tensorflow\/deflated': unsupported compression method: 14/);
    const longer = await changed(deflated, (entry) => entry.writeUInt32LE(1, BYTES));
    await expect(unpacked(longer)).rejects.toThrow(/'tensorflow\/deflated': .*expected 1\./);
    const shorter = await changed(deflated, (entry) => entry.writeUInt32LE(2 ** 31, BYTES));
    await expect(unpacked(shorter)).rejects.toThrow(/'tensorflow\/deflated': .*expected 2147483648/);
    const other = await changed(stored, (entry) => entry.writeUInt32LE(1, BYTES));
    await expect(opened(other)).rejects.toThrow(/size mismatch for stored file/);
  });

  it('is not written further than it may be long', async () => {
    const bomb = { name: 'bomb', content: Buffer.alloc(5e7), compress: true };
    await expect(unpacked(await changed(bomb, (entry) => entry.writeUInt32LE(9, BYTES)))).rejects.toThrow(BuildError);
    expect((await readFile(join(folder, '0'))).length).toBeLessThan(1e6);
  });

  it('refuses files that are damaged', async () => {
    const damaged = await zipArchive([deflated]);
    damaged.fill(0xff, damaged.indexOf(deflated.name) + deflated.name.length, damaged.indexOf('PK\x01\x02'));
    await expect(unpacked(damaged)).rejects.toThrow(/'tensorflow\/deflated': invalid/);
    await expect(unpacked(damaged)).rejects.toThrow(BuildError);
  });

  it.each(['../../etc/passwd', '/etc/passwd', 'a/../../b', 'C:/windows', 'a\\..\\..\\b'])(
    'refuses %s, which leads out of the folder that it is unpacked in',
    async (name) => {
      const harmless = 'x'.repeat(name.length);
      const archive = await zipArchive([{ name: harmless, content: Buffer.from('evil'), compress: false }]);
      const evil = Buffer.from(archive.toString('latin1').replaceAll(harmless, name), 'latin1');
      await expect(opened(evil)).rejects.toThrow(/a\.whl: (absolute|invalid relative) path: /);
      expect(await readdir(folder)).toEqual(['a.whl']);
    },
  );
});
