import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { filesBelow, root } from '../workspace/repository.js';
import { follow, install } from './followed.js';

/** What the reader sees in the end, by tutorial. */
const seen: Readonly<Record<string, RegExp>> = {
  adalora: /encoder\S* +█+ \d+$/m,
  'adapter-to-transformers-js': /farthest logits, relatively: \d/,
  'compare-methods': /report\.html/,
  'compiled-training': /found 1\.00 2\.00 -1\.00 -?0\.00 0\.50 3\.00/,
  lora: /^(good|bad ) I could not put it down\.$/m,
  'own-layers-model': /merged 0\.\d+/,
  'own-model': /trainable params: [\d,]+/,
  'scale-out': /kind: "?Job/,
  sora: /^ +6 +\d+ +\d+ /m,
  'write-a-method': /trainable params: [\d,]+/,
};

/** What a tutorial finds in its folder: a model of the reader's own. */
const given: Readonly<Record<string, (folder: string) => Promise<void>>> = {
  'own-model': (folder) =>
    cp(join(root, 'tests/models/fixtures/bert-tiny'), join(folder, 'models/my-bert'), { recursive: true }),
};

const tutorials = filesBelow('docs/tutorials').filter((path) => path.endsWith('.md'));

describe('each tutorial, followed from an empty folder', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peftjs-tutorials-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it.each(tutorials)('%s', { timeout: 400_000 }, async (page) => {
    const name = basename(page, '.md');
    const own = join(folder, name);
    await mkdir(own);
    await given[name]?.(own);
    expect(await follow(page, own)).toMatch(seen[name] ?? /(?!)/);
  });
});

it("the README, on text of one's own", { timeout: 400_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-readme-'));
  const file = createRequire(import.meta.url).resolve('sentiment/test/fixtures/yelp.json');
  const rows = JSON.parse(await readFile(file, 'utf8')) as { text: string; class: number }[];
  const table = (part: typeof rows) =>
    ['text\tlabel', ...part.map(({ text, class: label }) => `${text}\t${label}`)].join('\n');
  await writeFile(join(folder, 'my.tsv'), table(rows.slice(0, 120)));
  await writeFile(join(folder, 'my-dev.tsv'), table(rows.slice(120, 160)));
  await install('@peftjs/bench', folder);
  expect(await follow('README.md', folder)).toMatch(/SORA|LORA/);
  expect(await readdir(join(folder, 'my-adapter'))).toContain('adapter_model.safetensors');
  await rm(folder, { recursive: true });
});
