import { memoryStorage } from '@peftjs/core';
import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import {
  type LabelKind,
  readLanguageTask,
  readTable,
  readTask,
  type ReadTaskOptions,
  type Table,
  type TableReader,
} from '@peftjs/tasks';
import { bytesOf, expectDataError } from './files.js';

const train = 'text\tlabel\ngood\tpos\nbad\tneg\nfine\tpos\n';

function task(files: Record<string, string>, options: Partial<ReadTaskOptions<LabelKind>> = {}) {
  const storage = memoryStorage(new Map(Object.entries(files).map(([path, text]) => [path, bytesOf(text)])));
  const [trainPath = '', devPath = ''] = Object.keys(files);
  return readTask<LabelKind>({ train: trainPath, dev: devPath, storage, ...options });
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

  it('leaves out rows without a label, of both files', async () => {
    const files = { 'a.tsv': `${train}odd\t\n`, 'b.tsv': 'text\tlabel\nmeh\t\nso\tneg\n' };
    await expectDataError(task(files), 'a.tsv:5', 'no label');
    const read = await task(files, { skipUnlabelled: true });
    expect([read.train.rows.length, read.dev.rows.length]).toEqual([3, 1]);
  });

  it('accepts a name and a kind', async () => {
    const scores = 'text\tlabel\na\t1\nb\t3\n';
    const read = await task({ 'a.tsv': scores, 'b.tsv': scores }, { name: 'scores', kind: 'regression' });
    expect(read).toMatchObject({ name: 'scores', kind: 'regression', primaryMetric: 'pearson', classes: [] });
    expect(read.dev.rows.map(({ label }) => label)).toEqual([1, 3]);
  });

  it('selects checkpoints by the named metric', async () => {
    const files = { 'a.tsv': train, 'b.tsv': train };
    const led = await task(files, { metric: 'f1' });
    expect([led.primaryMetric, Object.keys(led.metrics.metrics)]).toEqual(['f1', ['f1', 'accuracy', 'macroF1']]);
    expect((await task(files, { metric: 'macroF1' })).primaryMetric).toBe('macroF1');
    const scores = { 'a.tsv': 'text\tlabel\na\t1.5\nb\t3\n', 'b.tsv': 'text\tlabel\na\t2\n' };
    expect((await task(scores, { metric: 'spearman' })).metrics.primary).toBe('spearman');
  });

  it.each([
    ['one for numbers', 'pearson', train],
    ['one that does not exist', 'constructor', train],
    ['f1 of three classes', 'f1', `${train}odd\tmixed\n`],
    ['one of which lower is better', 'meanSquaredError', 'text\tlabel\na\t1.5\nb\t3\n'],
  ])('rejects a metric that does not fit: %s', async (_, metric, text) => {
    await expect(task({ 'a.tsv': text, 'b.tsv': text }, { metric })).rejects.toBeInstanceOf(ConfigError);
  });

  it('reads integers in the development file of a regression task', async () => {
    const read = await task({ 'a.tsv': 'text\tlabel\na\t1.5\nb\t3\n', 'b.tsv': 'text\tlabel\na\t2\n' });
    expect(read.dev).toMatchObject({ kind: 'regression', rows: [{ label: 2 }] });
  });

  it('rejects a label that is not in the training file', async () => {
    const dev = 'text\tlabel\na\tpos\nb\tneutral\n';
    await expectDataError(task({ 'a.tsv': train, 'b.tsv': dev }), 'b.tsv:3', '"neg", "pos"', '"neutral"');
  });

  it('rejects pairs in only one file', async () => {
    const dev = 'text_a\ttext_b\tlabel\na\tb\tpos\n';
    await expectDataError(task({ 'a.tsv': train, 'b.tsv': dev }), 'b.tsv', '"text_a", "text_b"');
  });

  it('rejects an unknown option and suggests the nearest', async () => {
    const reading = task({ 'a.tsv': train, 'b.tsv': train }, { labelColum: 'x' } as never);
    await expect(reading).rejects.toThrow("readTask: option 'labelColum' is unknown (did you mean 'labelColumn'?)");
  });

  it('rejects a missing file', async () => {
    await expectDataError(task({ 'a.tsv': train }, { dev: 'nowhere.tsv' }), 'nowhere.tsv');
  });

  it('passes on other errors of the storage', async () => {
    const storage = { ...memoryStorage(), read: () => Promise.reject(new UnsupportedError('no disk')) };
    await expect(task({ 'a.tsv': train }, { storage })).rejects.toBeInstanceOf(UnsupportedError);
  });
});

describe('a task without a development file', () => {
  const table = ['text\tlabel', ...Array.from({ length: 60 }, (_, row) => `text ${row % 50}\t${(row % 50) % 3}`)].join(
    '\n',
  );

  it('holds out a tenth of its rows, always the same, with equal texts on one side and each class in proportion', async () => {
    const read = await task({ 'a.tsv': table }, { dev: undefined });
    expect([read.train.rows.length, read.dev.rows.length]).toEqual([54, 6]);
    expect(read.classes).toEqual(['0', '1', '2']);
    expect(read.dev).toMatchObject({ name: 'a/dev', kind: 'classification', classes: ['0', '1', '2'] });
    for (const label of [0, 1, 2]) expect(read.dev.rows.filter((row) => row.label === label)).toHaveLength(2);
    const texts = new Set(read.train.rows.map(({ text }) => text));
    for (const { text } of read.dev.rows) expect(texts.has(text)).toBe(false);
    expect((await task({ 'a.tsv': table }, { dev: undefined })).dev.fingerprint).toBe(read.dev.fingerprint);
  });

  it('is rejected if too few rows or classes are left', async () => {
    const same = 'text\tlabel\na\t0\na\t1\n';
    await expectDataError(task({ 'a.tsv': same }, { dev: undefined }), 'a:', '2 rows, too few or too similar');
    const rare = 'text\tlabel\na\t0\nb\t1\n';
    await expectDataError(task({ 'a.tsv': rare }, { dev: undefined }), 'got only', 'dev takes every row of');
  });
});

describe('a language task without a development file', () => {
  const documents = Array.from({ length: 20 }, (_, row) => JSON.stringify({ text: `text ${row % 15}` })).join('\n');
  const read = (path: string, text: string) =>
    readLanguageTask({ train: path, storage: memoryStorage(new Map([[path, bytesOf(text)]])) });

  it('holds out a tenth of its rows, with equal ones on one side', async () => {
    const { train: kept, dev } = await read('a.jsonl', documents);
    expect([kept.rows.length, dev.rows.length]).toEqual([18, 2]);
    for (const row of dev.rows) expect(kept.rows).not.toContainEqual(row);
    expect((await read('a.jsonl', documents)).dev.fingerprint).toBe(dev.fingerprint);
  });

  it('is rejected if it is one document', async () => {
    await expectDataError(read('a.txt', 'One.\n\nTwo.'), 'a:', 'got 1', 'split the text into documents');
  });
});

describe('a reader of your own', () => {
  const read = (given: Uint8Array): Table => {
    const lines = new TextDecoder().decode(given.subarray(5)).trim().split('\n');
    const records = lines.map((line, index) => {
      const [label = '', text = ''] = line.split('|');
      return { line: index + 2, cells: new Map(Object.entries({ text, label })) };
    });
    return { columns: ['text', 'label'], line: 1, records };
  };
  const pipes: TableReader = {
    name: 'a table of pipes',
    maxBytes: 60,
    recognises: (path, head) => path.endsWith('.pipes') || new TextDecoder().decode(head).startsWith('pipe\n'),
    read,
  };
  const readers = [pipes];

  it('reads files that it recognises by name or content, before the built-in readers', async () => {
    const heads: number[] = [];
    const recognises: TableReader['recognises'] = (path, head) => {
      heads.push(head.length);
      return pipes.recognises(path, head);
    };
    const long = `text\tlabel\n${'word '.repeat(500)}\tneg\n`;
    const files = { 'a.tsv': 'pipe\npos|good\nneg|bad\n', 'b.tsv': long };
    const found = await task(files, { readers: [{ ...pipes, recognises }] });
    expect(found).toMatchObject({ classes: ['neg', 'pos'], train: { rows: [{ text: 'good' }, { text: 'bad' }] } });
    expect(found.dev.rows).toMatchObject([{ label: 0 }]);
    expect(heads).toEqual([22, 1024]);
  });

  it('is skipped if the format is given', async () => {
    const bytes = bytesOf('{"text":"a","label":"x"}\n{"text":"b","label":"y"}');
    expect(await readTable(bytes, { path: 'a.pipes', format: 'jsonl', readers })).toMatchObject({
      classes: ['x', 'y'],
    });
  });

  it('returns rows that are checked like all others, with the path and the line', async () => {
    await expectDataError(
      task({ 'a.pipes': 'pipe\npos|good\nneg|\n', 'b.tsv': train }, { readers }),
      'a.pipes:3',
      'no text',
    );
  });

  it('gets no file that is too large, and is named if it fails or no format fits', async () => {
    const rows = `pipe\n${'pos|good\n'.repeat(10)}`;
    await expectDataError(task({ 'a.pipes': rows, 'b.tsv': train }, { readers }), 'at most 60 bytes, got 95');
    const broken = {
      ...pipes,
      read() {
        throw new RangeError('no pipe');
      },
    };
    const failing = task({ 'a.pipes': 'pipe\n', 'b.tsv': train }, { readers: [broken] });
    await expectDataError(failing, 'a.pipes: cannot be read as a table of pipes: no pipe');
    await expectDataError(task({ 'a.odd': train, 'b.tsv': train }, { readers }), '.parquet, or a table of pipes');
  });

  it.each([
    ['not a list', pipes],
    ['not a reader', [{ name: 'pipes' }]],
    ['nothing', [null]],
  ])('is rejected: %s', async (_, given) => {
    const reading = task({ 'a.tsv': train, 'b.tsv': train }, { readers: given as never });
    await expect(reading).rejects.toThrow(ConfigError);
    await expect(reading).rejects.toThrow(/option 'readers' is .*; expected a list of { name, recognises, read }/);
  });
});
