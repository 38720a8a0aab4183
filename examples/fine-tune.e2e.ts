import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../tools/vitest/temporary-folder.js';
import { fineTune, type Review } from './fine-tune.js';

const folder = temporaryFolder();

it('fine-tunes on real reviews, saves, loads and beats guessing', async () => {
  const file = createRequire(import.meta.url).resolve('sentiment/test/fixtures/yelp.json');
  const rows = JSON.parse(await readFile(file, 'utf8')) as { text: string; class: 0 | 1 }[];
  const reviews = rows.slice(0, 300).map(({ text, class: label }): Review => [text, label]);
  const { metrics, parameters } = await fineTune(reviews, join(folder, 'adapter'));
  expect(metrics.accuracy).toBeGreaterThan(0.7);
  expect(Math.abs(parameters.stored - 50_000)).toBeLessThanOrEqual(500);
  expect(await readdir(join(folder, 'adapter'))).toEqual([
    'README.md',
    'adapter_config.json',
    'adapter_model.safetensors',
  ]);
});
