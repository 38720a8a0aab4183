// A folder of images, a vision network in ONNX, and what the commands make of them.
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { diskStorage } from '@peftjs/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadTask } from '../../packages/cli/src/registry/tasks.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { visionFolder } from '../models/vision.js';
import { peftBench } from './in-process.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

/** Copies pictures into a folder for each class. */
async function images(name: string, count: number): Promise<void> {
  for (const [label, picture] of Object.entries({ dark: 'grey.png', light: 'tall.png' })) {
    await mkdir(path(`${name}/${label}`), { recursive: true });
    const from = new URL(`../tasks/fixtures/images/${picture}`, import.meta.url);
    for (let image = 0; image < count; image++) await copyFile(from, path(`${name}/${label}/${image}.png`));
  }
}

beforeAll(async () => {
  await images('photos/train', 16);
  await images('photos/dev', 4);
  for (const [file, bytes] of visionFolder(path('vit'))) await diskStorage().write(file, bytes);
});

const train = (...flags: readonly string[]) =>
  peftBench(['train', '--preset', 'smoke', '--method', 'lora', '--budget', 'r=2', '--batch-size', '8', ...flags]);

describe('a folder of images', () => {
  it('trains an adapter, which predicts the labels of images', async () => {
    const { code, stderr } = await train('--model', path('vit'), '--images', path('photos'), '--out', path('adapter'));
    expect(stderr).toContain(`predict ${path('adapter')} ${path('photos/dev/dark/0.png')}`);
    expect(code).toBe(0);
    const shown = await peftBench([
      'predict',
      path('adapter'),
      path('photos/dev/dark/0.png'),
      '--top-k',
      '2',
      '--json',
    ]);
    const answer = JSON.parse(shown.stdout) as { labels: { label: string }[] };
    expect(answer.labels.map(({ label }) => label).sort()).toEqual(['dark', 'light']);
    expect(shown.code).toBe(0);
  });

  it('is exported as a graph for transformers.js, which the commands open, too', async () => {
    const { code, stderr } = await peftBench(['export', path('adapter'), '--format', 'onnx', '--out', path('web')]);
    expect(stderr).toContain('with merged weights in float32 (its outputs');
    expect(stderr).toContain(`await pipeline('image-classification', '${path('web')}') in transformers.js`);
    expect(code).toBe(0);
    const picture = path('photos/dev/dark/0.png');
    const answers = [];
    for (const source of ['adapter', 'web']) {
      const { stdout } = await peftBench(['predict', path(source), picture, '--json']);
      answers.push((JSON.parse(stdout) as { labels: { label: string }[] }).labels[0]?.label);
    }
    expect(answers[0]).toBeDefined();
    expect(answers[1]).toBe(answers[0]);
  });

  it.each([
    [['--images', 'photos', '--train', 'vit/config.json'], /--images names a folder of images; leave out --train/],
    [['--images', 'photos', '--max-tokens=9'], /--images names a folder of images; leave out --max-tokens/],
    [['--images', 'photos', '--split=half-dev'], /the split 'half-dev' applies to GLUE tasks and trec in a folder/],
    [['--images', 'none'], /no such file or folder: --images/],
    [['--images', 'vit'], /expected PNG or JPEG images in at least two folders/],
  ])('is refused with %j', async (flags, message) => {
    const given = flags.map((flag) => (flag.startsWith('--') ? flag : path(flag)));
    const { code, stderr } = await train('--model', path('vit'), ...given, '--out', path('refused'));
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });

  it('trains on train, reports on val, and leaves test alone', async () => {
    for (const [part, count] of Object.entries({ train: 3, val: 2, test: 4 })) await images(`parts/${part}`, count);
    const read = () => loadTask('photos', { kind: 'folder', folder: path('parts'), images: true });
    const { train, dev } = await read();
    const parts = ({ rows }: { readonly rows: readonly object[] }): string[] =>
      rows.map((row) => (row as { readonly text: string }).text.replace(/\d\.png/, ''));
    const [dark, light] = ['train/dark/', 'train/light/'];
    expect(parts(train)).toEqual([dark, dark, dark, light, light, light]);
    expect(parts(dev)).toEqual(['val/dark/', 'val/dark/', 'val/light/', 'val/light/']);
    await images('parts/more', 1);
    await expect(read()).rejects.toThrow(/expected all images in train, validation and test, or none, got more\//);
  });

  it('needs a network of images', async () => {
    const { code, stderr } = await train('--model', bertFolder, '--images', path('photos'), '--out', path('refused'));
    expect(stderr).toMatch(/reads no images; give the folder of a vision network in ONNX/);
    expect(code).toBe(2);
  });
});
