import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { readResults, summarise, type Summary } from '@peftjs/bench';
import { afterAll, beforeAll, expect, it } from 'vitest';

const published = fileURLToPath(new URL('../../docs/benchmarks/results/', import.meta.url));
const folders = await readdir(published, { recursive: true });
const runs = folders.filter((path) => path.endsWith('run.tar.gz')).map(dirname);

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peft-bench-archives-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** The plain files of a tar archive, by path. */
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

/** What a published summary and one of today say in the same words. */
function comparable({ rows, overall, comparisons }: Summary): unknown {
  const byName = rows.map(({ parameters: { stored, base }, ...row }) => [
    JSON.stringify(row.trials),
    { ...row, stored, base },
  ]);
  return { rows: Object.fromEntries(byName) as unknown, overall: overall.length, comparisons };
}

it('there are archives', () => {
  expect(runs).toContain('standard');
});

it.each(runs)("the archive of '%s' is read, and summarised as it was published", { timeout: 60_000 }, async (name) => {
  for (const [path, content] of filesOf(gunzipSync(await readFile(join(published, name, 'run.tar.gz'))))) {
    await mkdir(join(folder, name, dirname(path)), { recursive: true });
    await writeFile(join(folder, name, path), content);
  }
  const then = JSON.parse(await readFile(join(published, name, 'summary.json'), 'utf8')) as Summary;
  const results = await readResults(join(folder, name));
  expect(new Set(results.map(({ format, versions }) => `${format}, ${versions.numerics}`))).toEqual(new Set(['2, 0']));
  expect(comparable(summarise(results, then))).toEqual(comparable(then));
  for (const { judgedOn } of await readResults(join(folder, name, 'tuning'))) expect(judgedOn).toBe('selection');
});
