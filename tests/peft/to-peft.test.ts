import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { adalora } from '@peftjs/adalora';
import { attach, loadPretrained, memoryStorage, savePretrained, train, type PeftModel } from '@peftjs/core';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { drawnAdapters, newAdapters, savedAs, writeAdapters } from './adapters.js';
import { bertFolder } from '../models/bert-tiny.js';
import { executor, fixtures, logitsOf, methods, model, readJson, tensorsOf, TOLERANCE, trainingData } from './bert.js';

const drawn = drawnAdapters();

/** Written by tools/golden/write-adapters.ts and tools/golden/open_in_peft.py. */
const opened = readJson('from-peftjs/opened.json') as { distance: number; logits: Record<string, number[][]> };

it('has a fixture for every adapter, which PEFT opened with the same logits', () => {
  expect(Object.keys(opened.logits)).toEqual(drawn.map(([name]) => name));
  expect(opened.distance).toBeLessThan(TOLERANCE);
});

describe.each(drawn)('%s, opened by PEFT', (name, peft) => {
  const fixture = (file: string): Promise<Uint8Array> => readFile(`${fixtures}/from-peftjs/${name}/${file}`);

  it('equals what is written today', async () => {
    const storage = memoryStorage();
    await savePretrained(peft, name, { storage, ...savedAs(name) });
    const weights = await storage.read(`${name}/${ADAPTER_WEIGHTS}`);
    const expected = await fixture(ADAPTER_WEIGHTS);
    expect(parsed(await storage.read(`${name}/${ADAPTER_CONFIG}`))).toEqual(parsed(await fixture(ADAPTER_CONFIG)));
    expect(shapesOf(weights)).toEqual(shapesOf(expected));
    expect(Buffer.from(weights).equals(expected)).toBe(true);
  });

  it('has the same logits as in PEFT, before and after saving', async () => {
    const logits = (opened.logits[name] ?? []).flat();
    expect(relativeDistance(await logitsOf(peft), logits)).toBeLessThan(TOLERANCE);
    const loaded = await loadPretrained(model, `${fixtures}/from-peftjs/${name}`, { methods });
    expect(relativeDistance(await logitsOf(loaded), logits)).toBeLessThan(TOLERANCE);
  });
});

function parsed(bytes: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(bytes));
}

function shapesOf(weights: Uint8Array): Record<string, readonly number[]> {
  return Object.fromEntries(Object.entries(tensorsOf(weights)).map(([name, { shape }]) => [name, shape]));
}

const python = process.env.PEFTJS_PYTHON ?? '';
const reason = python === '' ? 'PEFTJS_PYTHON names no interpreter with peft' : `PEFTJS_PYTHON is ${python}`;

describe(`in real PEFT (${reason})`, () => {
  it.skipIf(python === '')('opens adapters with random values and trained ones', async () => {
    expect(existsSync(python)).toBe(true);
    for (const adapters of [drawn, await trained()]) {
      const folder = folderOfTest();
      await writeAdapters(folder, adapters);
      expect(openInPeft(folder)).toEqual({ status: 0, error: '' });
      const report = JSON.parse(await readFile(join(folder, 'opened.json'), 'utf8')) as { distance: number };
      expect(report.distance).toBeLessThan(TOLERANCE);
    }
  });
});

describe(`the model card (${reason})`, () => {
  it.skipIf(python === '')('has lines of Python that run', async () => {
    const folder = folderOfTest();
    await symlink(bertFolder, join(folder, 'bert-tiny'));
    const classifier = await fromPretrained(bertFolder, { labels: ['angry', 'calm', 'glad'] });
    await savePretrained(attach(classifier, lora({ r: 2 })), join(folder, 'mine'));
    const card = await readFile(join(folder, 'mine/README.md'), 'utf8');
    const [, lines = ''] = /```python\n(.*?)```/s.exec(card) ?? [];
    const { status, stdout, stderr } = spawnSync(python, ['-c', lines], { cwd: folder, encoding: 'utf8' });
    expect({ status, stdout }, stderr).toEqual({ status: 0, stdout: expect.stringContaining('tensor([[') as string });
  });
});

async function trained(): Promise<[name: string, peft: PeftModel][]> {
  const compacted = adalora({ initR: 4, targetR: 1, targetModules: ['query', 'value', 'output.dense'], compact: true });
  const adapters: [string, PeftModel][] = newAdapters().map(([name, peft]) => [name, peft]);
  adapters.push(['adalora-compacted', attach(model, compacted)]);
  for (const [, peft] of adapters) {
    await train(peft, trainingData, { executor, epochs: 2, learningRate: 1e-2, learningRates: { gate: 0.1 } });
  }
  return adapters;
}

function openInPeft(folder: string): { status: number | null; error: string } {
  const script = fileURLToPath(new URL('../../tools/golden/open_in_peft.py', import.meta.url));
  const { status, stderr } = spawnSync(python, ['-W', 'ignore::FutureWarning', script, folder], { encoding: 'utf8' });
  return { status, error: status === 0 ? '' : stderr.trim().split('\n').slice(-1).join() };
}
