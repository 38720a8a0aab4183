import { beforeAll, describe, expect, it } from 'vitest';
import { embeddedTasks, type DataSet, type ReadPackageFile, type Task, type LabelKind } from '@peftjs/tasks';
import { bytesOf, expectDataError, readInstalled } from './files.js';

function load(name: string, read: ReadPackageFile = readInstalled): Promise<Task<LabelKind>> {
  const task = embeddedTasks.get(name);
  return task ? task.load(read) : Promise.reject(new TypeError(name));
}

function rowsByClass({ classes, rows }: DataSet<LabelKind>): Record<string, number> {
  return Object.fromEntries(classes.map((name, label) => [name, rows.filter((row) => row.label === label).length]));
}

function sharedTexts({ train, dev }: Task<LabelKind>): string[] {
  const known = new Set(train.rows.map(({ text }) => text));
  return dev.rows.map(({ text }) => text).filter((text) => known.has(text));
}

describe('embeddedTasks', () => {
  it('have a source and a licence', () => {
    expect([...embeddedTasks.keys()]).toEqual(['uci-sentiment', 'wordnet-supersense']);
    for (const [name, task] of embeddedTasks) {
      expect(task.name).toBe(name);
      expect(`${task.source}; ${task.licence}`).toMatch(/npm \S+@\d+\.\d+\.\d+.*(MIT|CC BY)/);
    }
  });
});

describe('uci-sentiment', () => {
  let task: Task<LabelKind>;
  beforeAll(async () => {
    task = await load('uci-sentiment');
  });

  it('has balanced rows, and no text on both sides', () => {
    expect(rowsByClass(task.train)).toEqual({ negative: 1200, positive: 1200 });
    expect(rowsByClass(task.dev)).toEqual({ negative: 300, positive: 300 });
    expect(sharedTexts(task)).toEqual([]);
    expect(task.primaryMetric).toBe('accuracy');
  });

  it('has the sentences of all three sites with their labels', () => {
    const rows = [...task.train.rows, ...task.dev.rows];
    const labelOf = (text: string) => rows.find((row) => row.text === text)?.label;
    expect(labelOf('Good case, Excellent value.')).toBe(1);
    expect(labelOf('Crust is not good.')).toBe(0);
    expect(labelOf('Exceptionally bad!')).toBe(0);
    expect(rows.every(({ text }) => text === text.trim() && text !== '')).toBe(true);
  });

  it('is the same at every load', async () => {
    const again = await load('uci-sentiment');
    expect([again.train.fingerprint, again.dev.fingerprint]).toEqual([task.train.fingerprint, task.dev.fingerprint]);
    expect(task.train.fingerprint).not.toBe(task.dev.fingerprint);
  });

  it.each([
    ['invalid JSON', '[{"text"', 'JSON'],
    ['no array', '{}', 'JSON array'],
    ['too few sentences', '[{"text":"a","class":1}]', '1000'],
    ['an unknown class', '[{"text":"a","class":2}]', 'entry 0'],
    ['a missing text', '[null]', 'entry 0'],
    ['more sentences', JSON.stringify(new Array(1001).fill({ text: 'a', class: 1 })), '1001'],
  ])('rejects a file with %s', async (_, text, part) => {
    await expectDataError(
      load('uci-sentiment', () => Promise.resolve(bytesOf(text))),
      'sentiment/test/fixtures/amazon.json',
      part,
    );
  });
});

describe('wordnet-supersense', () => {
  let task: Task<LabelKind>;
  beforeAll(async () => {
    task = await load('wordnet-supersense');
  });

  it('has the 8 most frequent supersenses, balanced, and no text on both sides', () => {
    const classes = ['act', 'animal', 'artifact', 'communication', 'location', 'person', 'plant', 'state'];
    expect(task.classes).toEqual(classes);
    expect(rowsByClass(task.train)).toEqual(Object.fromEntries(classes.map((name) => [name, 1000])));
    expect(rowsByClass(task.dev)).toEqual(Object.fromEntries(classes.map((name) => [name, 250])));
    expect(sharedTexts(task)).toEqual([]);
  });

  it('has definitions without examples, of four words and more', () => {
    const texts = [...task.train.rows, ...task.dev.rows].map(({ text }) => text);
    expect(new Set(texts).size).toBe(10_000);
    expect(texts.filter((text) => text.split(/\s+/).length < 4 || /[;:]\s+"/.test(text))).toEqual([]);
  });

  it('is the same at every load', async () => {
    const again = await load('wordnet-supersense');
    expect([again.train.fingerprint, again.dev.fingerprint]).toEqual([task.train.fingerprint, task.dev.fingerprint]);
  });

  it.each([
    ['no synsets', '  1 licence\n', '1250'],
    ['another file', '  1 licence\nabc\n', 'data.noun:2'],
    ['a file number that is not one of nouns', '00000001 99 n 01 a 0 000 | a thing of no kind at all', 'data.noun:1'],
  ])('rejects %s', async (_, text, part) => {
    await expectDataError(
      load('wordnet-supersense', () => Promise.resolve(bytesOf(text))),
      part,
    );
  });
});
