import { memoryStorage } from '@peftjs/core';
import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { readTask, type ReadTaskOptions } from '@peftjs/tasks';
import { bytesOf, expectDataError } from './files.js';

const train = 'text\tlabel\ngood\tpos\nbad\tneg\nfine\tpos\n';

function task(files: Record<string, string>, options: Partial<ReadTaskOptions> = {}) {
  const storage = memoryStorage(new Map(Object.entries(files).map(([path, text]) => [path, bytesOf(text)])));
  const [trainPath = '', devPath = ''] = Object.keys(files);
  return readTask({ train: trainPath, dev: devPath, storage, ...options });
}

describe('readTask', () => {
  it('reads a training and a development file', async () => {
    const read = await task({ 'data/films.tsv': train, 'dev.jsonl': '{"text":"meh","label":"neg"}' });
    expect(read).toMatchObject({
      name: 'films',
      kind: 'classification',
      classes: ['neg', 'pos'],
      primaryMetric: 'accuracy',
      train: { name: 'films', rows: [{ label: 1 }, { label: 0 }, { label: 1 }] },
      dev: { name: 'dev', classes: ['neg', 'pos'], rows: [{ text: 'meh', label: 0 }] },
    });
  });

  it('takes a name and a kind', async () => {
    const scores = 'text\tlabel\na\t1\nb\t3\n';
    const read = await task({ 'a.tsv': scores, 'b.tsv': scores }, { name: 'scores', kind: 'regression' });
    expect(read).toMatchObject({ name: 'scores', kind: 'regression', primaryMetric: 'pearson', classes: [] });
    expect(read.dev.rows.map(({ label }) => label)).toEqual([1, 3]);
  });

  it('selects by the metric that is asked for', async () => {
    const files = { 'a.tsv': train, 'b.tsv': train };
    const led = await task(files, { metric: 'f1' });
    expect([led.primaryMetric, Object.keys(led.metrics.metrics)]).toEqual(['f1', ['f1', 'accuracy', 'macroF1']]);
    expect((await task(files, { metric: 'macroF1' })).primaryMetric).toBe('macroF1');
    const scores = { 'a.tsv': 'text\tlabel\na\t1.5\nb\t3\n', 'b.tsv': 'text\tlabel\na\t2\n' };
    expect((await task(scores, { metric: 'spearman' })).metrics.primary).toBe('spearman');
  });

  it.each([
    ['one of numbers', 'pearson', train],
    ['one that is nowhere', 'constructor', train],
    ['f1 of three classes', 'f1', `${train}odd\tmixed\n`],
    ['one that is better when less', 'meanSquaredError', 'text\tlabel\na\t1.5\nb\t3\n'],
  ])('refuses a metric of other data: %s', async (_, metric, text) => {
    await expect(task({ 'a.tsv': text, 'b.tsv': text }, { metric })).rejects.toBeInstanceOf(ConfigError);
  });

  it('reads integers in the development file of a regression', async () => {
    const read = await task({ 'a.tsv': 'text\tlabel\na\t1.5\nb\t3\n', 'b.tsv': 'text\tlabel\na\t2\n' });
    expect(read.dev).toMatchObject({ kind: 'regression', rows: [{ label: 2 }] });
  });

  it('refuses a label that training does not have', async () => {
    const dev = 'text\tlabel\na\tpos\nb\tneutral\n';
    await expectDataError(task({ 'a.tsv': train, 'b.tsv': dev }), 'b.tsv:3', '"neg", "pos"', '"neutral"');
  });

  it('refuses pairs in one file only', async () => {
    const dev = 'text_a\ttext_b\tlabel\na\tb\tpos\n';
    await expectDataError(task({ 'a.tsv': train, 'b.tsv': dev }), 'b.tsv', '"text_a", "text_b"');
  });

  it('refuses a missing file', async () => {
    await expectDataError(task({ 'a.tsv': train }, { dev: 'nowhere.tsv' }), 'nowhere.tsv');
  });

  it('passes other failures of the storage on', async () => {
    const storage = { ...memoryStorage(), read: () => Promise.reject(new UnsupportedError('no disk')) };
    await expect(task({ 'a.tsv': train }, { storage })).rejects.toBeInstanceOf(UnsupportedError);
  });
});
