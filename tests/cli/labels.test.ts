import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { adalora } from '@peftjs/adalora';
import { attach, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { bertFolder } from '../models/bert-tiny.js';
import { peftBench } from './in-process.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);

let said = '';

beforeAll(async () => {
  const task = await tinyTask(folder, 32);
  const trained = await peftBench(['train', '--method', 'lora', ...task, '--out', path('trained')]);
  expect(trained).toMatchObject({ code: 0 });
  said = trained.stderr;
  const model = await fromPretrained(bertFolder); // three outputs
  await savePretrained(attach(model, lora({ r: 2 })), path('unnamed'));
  await savePretrained(attach(model, sora({ r: 2 })), path('pruned'));
  await savePretrained(attach(model, adalora({ initR: 2, targetR: 1 })), path('singular'));
});

async function labelsOf(file: string): Promise<unknown> {
  return (JSON.parse(await readFile(path(file), 'utf8')) as { id2label?: unknown }).id2label;
}

async function exported(adapter: string, format: string, ...flags: string[]) {
  const out = `${adapter}-${format}`;
  return peftBench(['export', path(adapter), '--format', format, '--out', path(out), ...flags]);
}

describe('the classes of a training file', () => {
  it('are counted before the first step; texts that are also reported are said, and what to beat after it', () => {
    const lines = said.split('\n');
    const [data, step, score] = [
      'data: ',
      'trial 1 of 1',
      'scored on 16 rows; always answering "bad" scores accuracy 0.500',
    ].map((start) => lines.findIndex((line) => line.startsWith(start))) as [number, number, number];
    expect(lines.slice(data, data + 3)).toEqual([
      'data: 29 rows to train on, 3 to select checkpoints on, 16 to report on',
      'classes: bad 16, good 16',
      'leaked: 16 reported rows with texts of the other rows, which flatters the score',
    ]);
    expect(data).toBeLessThan(step);
    expect(step).toBeLessThan(score);
  });

  it('are saved with the adapter that peft-bench train makes', async () => {
    expect(await labelsOf('trained/adapter_config.json')).toEqual({ 0: 'bad', 1: 'good' });
  });

  it('are shown by inspect', async () => {
    const { stdout } = await peftBench(['inspect', path('trained')]);
    expect(stdout).toContain('classes: 0 "bad", 1 "good"\n');
  });

  it.each([
    ['trained', /^LORA adapter for /],
    ['pruned', /^sora adapter, stored as LORA, for /],
    ['singular', /^adalora adapter, stored as LORA, for /],
  ])('are shown below the method that made it: %s', async (name, title) => {
    expect((await peftBench(['inspect', path(name)])).stdout).toMatch(title);
  });

  it('are in the config.json of exports, without --labels or with the same ones', async () => {
    expect(await exported('trained', 'merged')).toMatchObject({ code: 0 });
    expect(await labelsOf('trained-merged/config.json')).toEqual({ 0: 'bad', 1: 'good' });
    expect(await exported('trained', 'onnx', '--labels', 'bad,good')).toMatchObject({ code: 0 });
    expect(await labelsOf('trained-onnx/config.json')).toEqual({ 0: 'bad', 1: 'good' });
  });

  it('cannot be reordered by --labels', async () => {
    const { code, stderr } = await exported('trained', 'peft', '--labels', 'good,bad');
    expect(stderr).toMatch(/the adapter's classes, .*, are bad, good, but --labels is good, bad; leave --labels out/);
    expect(code).toBe(2);
  });
});

describe('an adapter without names for its classes', () => {
  it('is shown without names by inspect', async () => {
    expect((await peftBench(['inspect', path('unnamed')])).stdout).not.toContain('classes');
  });

  it('gets them by --labels, also as an adapter', async () => {
    expect(await exported('unnamed', 'peft', '--labels', 'a, b,c')).toMatchObject({ code: 0 });
    expect(await labelsOf('unnamed-peft/adapter_config.json')).toEqual({ 0: 'a', 1: 'b', 2: 'c' });
  });
});
