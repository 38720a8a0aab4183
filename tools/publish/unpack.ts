import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

/** Writes the plain files of a .tar.gz archive into a folder. */
export async function unpack(archive: string, into: string): Promise<void> {
  for (const [path, content] of filesOf(gunzipSync(await readFile(archive)))) {
    await mkdir(join(into, dirname(path)), { recursive: true });
    await writeFile(join(into, path), content);
  }
}

/** Yields the plain files of a tar archive, by path. */
function* filesOf(tar: Buffer): Generator<[path: string, content: Buffer]> {
  const text = (from: number, length: number): string =>
    tar
      .toString('latin1', from, from + length)
      .split('\0')[0]
      ?.trim() ?? '';
  for (let at = 0; at < tar.length && tar[at] !== 0;) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    if (text(at + 156, 1) === '0') yield [text(at, 100), tar.subarray(at + 512, at + 512 + size)];
    at += 512 + 512 * Math.ceil(size / 512);
  }
}
