import { onWarning } from '@peftjs/core';
import { DataError } from '@peftjs/core/method';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readTable, type DataSet, type LabelKind, type ReadTableOptions, type TableFormat } from '@peftjs/tasks';
import { bytesOf, expectDataError } from './files.js';

type Options = Omit<ReadTableOptions<LabelKind>, 'path'>;

const read = (text: string, path = 'train.tsv', options: Options = {}) =>
  readTable<LabelKind>(bytesOf(text), { path, ...options });

type TextFormat = Exclude<TableFormat, 'parquet'>;

describe('formats', () => {
  const rows = [
    { text: 'good', label: 1 },
    { text: 'bad', label: 0 },
  ];

  it.each([
    ['a.tsv', 'text\tlabel\ngood\tpos\nbad\tneg\n'],
    ['no final newline.tsv', 'text\tlabel\ngood\tpos\nbad\tneg'],
    ['crlf.tsv', 'text\tlabel\r\ngood\tpos\r\nbad\tneg\r\n'],
    ['cr.csv', 'text,label\rgood,pos\rbad,neg\r'],
    ['bom.tsv', '\ufefftext\tlabel\ngood\tpos\nbad\tneg\n'],
    ['blank lines.tsv', '\ntext\tlabel\n\ngood\tpos\n  \nbad\tneg\n\n'],
    ['blank rows.tsv', '\t\ntext\tlabel\ngood\tpos\n \t\nbad\tneg\n\t\n'],
    ['blank rows.csv', 'text;label\r\ngood;pos\r\nbad;neg\r\n;\r\n" ";""\r\n'],
    ['other columns.tsv', 'id\tlabel\ttext\n1\tpos\tgood\n2\tneg\tbad\n'],
    ['FOLDER.x/A.TSV', 'text\tlabel\ngood\tpos\nbad\tneg\n'],
    ['a.csv', 'text,label\ngood,pos\nbad,neg\n'],
    ['quoted crlf.csv', '"text","label"\r\n"good","pos"\r\n"bad","neg"\r\n'],
    ['bom.csv', '\ufefftext,label\ngood,pos\nbad,neg'],
    ['a.jsonl', '{"text":"good","label":"pos"}\n{"label":"neg","text":"bad","id":{"a":[1]}}\n'],
    ['crlf.jsonl', '\ufeff{"text":"good","label":"pos"}\r\n\r\n{"text":"bad","label":"neg"}'],
  ])('reads %s', async (path, text) => {
    const dataSet = await read(text, path);
    expect(dataSet.rows).toEqual(rows);
    expect(dataSet.classes).toEqual(['neg', 'pos']);
    expect(dataSet.kind).toBe('classification');
  });

  it('keeps quotes in a TSV', async () => {
    const { rows } = await read('text\tlabel\n"open, said he\t0\nhe said "no\t1\n"whole"\t1\n');
    expect(rows.map(({ text }) => text)).toEqual(['"open, said he', 'he said "no', '"whole"']);
  });

  it('only splits the lines of a TSV at \\n', async () => {
    const { rows } = await read('text\tlabel\none\u2028two\u0085three\t0\nfour\t1\n');
    expect(rows[0]?.text).toBe('one\u2028two\u0085three');
  });

  it('accepts commas, quotes and line ends inside the quotes of a CSV', async () => {
    const { rows } = await read('text,label\n"a, ""b""\nc",0\nplain,1\n', 'a.csv');
    expect(rows.map(({ text }) => text)).toEqual(['a, "b"\nc', 'plain']);
  });

  it('reads pairs', async () => {
    const { rows } = await read('text_a\ttext_b\tlabel\na\tb\t0\nc\td\t1\n');
    expect(rows).toEqual([
      { text: 'a', pair: 'b', label: 0 },
      { text: 'c', pair: 'd', label: 1 },
    ]);
  });

  it('reads the text of labelled rows, whatever is said of their words', async () => {
    const csv = 'text,label,words,tags\ngood,pos,2,a\nbad,neg,4,b\n';
    expect((await read(csv, 'data.csv')).rows).toEqual(rows);
  });

  it('uses the format that the caller names', async () => {
    expect((await read('text,label\ngood,pos\nbad,neg\n', 'data.txt', { format: 'csv' })).rows).toEqual(rows);
  });
});

describe('labels', () => {
  const labelled = (labels: readonly (string | number)[], options: Options = {}) =>
    read(`text\tlabel\n${labels.map((label, row) => `row ${row}\t${label}`).join('\n')}`, 'train.tsv', options);
  const numbers = async (...args: Parameters<typeof labelled>) =>
    (await labelled(...args)).rows.map(({ label }) => label);

  it('orders numeric classes by value', async () => {
    expect((await labelled([10, 9, 2, 10])).classes).toEqual(['2', '9', '10']);
    expect(await numbers([10, 9, -2, 10])).toEqual([2, 1, 0, 2]);
  });

  it('orders other classes by code point', async () => {
    expect((await labelled(['é', 'b', 'B', '10', '\u{1F600}', '\uFF5E', 'ab', 'a'])).classes).toEqual([
      '10',
      'B',
      'a',
      'ab',
      'b',
      'é',
      '\uFF5E',
      '\u{1F600}',
    ]);
  });

  it('reads integers written with decimals as classes', async () => {
    expect((await labelled(['1.0', '0.0', '1', '-0'])).classes).toEqual(['0', '1']);
  });

  it('keeps codes apart from numbers', async () => {
    expect((await labelled(['01', '1', '1e2', '100'])).classes).toEqual(['01', '1', '100', '1e2']);
  });

  it('reads numbers with decimals as values to predict', async () => {
    const dataSet = await labelled(['5.000', '2.6', '-1e-1', '.5']);
    expect(dataSet.kind).toBe('regression');
    expect(dataSet.classes).toEqual([]);
    expect(dataSet.rows.map(({ label }) => label)).toEqual([5, 2.6, -0.1, 0.5]);
  });

  it('rejects many classes that are mostly numbers with decimals, unless they are said to be classes', async () => {
    const points = Array.from({ length: 30 }, (_, row) => `${row}.5`);
    await expectDataError(labelled([...points, 'NaN']), ':32:', 'a number, as most are, got "NaN"');
    const commas = points.map((label) => label.replace('.', ','));
    await expectDataError(labelled(commas), ':2:', 'got "0,5"; write decimals with a point');
    expect((await labelled([...points, 'NaN'], { kind: 'classification' })).classes).toHaveLength(31);
    const integers = points.map((_, row) => String(row));
    for (const legitimate of [
      ['1', '2', '3', 'n/a'],
      ['1.5', '2.5', 'none'],
      [...integers, 'other'],
    ]) {
      expect((await labelled(legitimate)).classes).toHaveLength(legitimate.length);
    }
  });

  it('uses the kind that the caller names', async () => {
    expect(await numbers([3, 1, 2], { kind: 'regression' })).toEqual([3, 1, 2]);
    expect((await labelled(['1.5', '0.5', '10.5'], { kind: 'classification' })).classes).toEqual([
      '0.5',
      '1.5',
      '10.5',
    ]);
  });

  it('accepts JSON numbers and booleans', async () => {
    const lines = (...labels: unknown[]) => labels.map((label) => JSON.stringify({ text: 'a', label })).join('\n');
    expect((await read(lines(1, 0, 1), 'a.jsonl')).classes).toEqual(['0', '1']);
    expect((await read(lines(true, false), 'a.jsonl')).classes).toEqual(['false', 'true']);
    expect((await read(lines(0.5, 1), 'a.jsonl')).kind).toBe('regression');
  });

  it('uses the training classes in a development set', async () => {
    const train = await labelled(['x', 'y', 'z']);
    const dev = await labelled(['z', 'z'], { like: train });
    expect(dev.classes).toEqual(['x', 'y', 'z']);
    expect(dev.rows.map(({ label }) => label)).toEqual([2, 2]);
  });
});

describe('fingerprint', () => {
  const table = 'text\tlabel\na\t0\nb\t1\n';

  it('depends on the content, not on the format or the name', async () => {
    const { fingerprint } = await read(table);
    expect(fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect((await read('label,text\r\n0,a\r\n1,"b"', 'other.csv')).fingerprint).toBe(fingerprint);
  });

  it.each([
    ['a text', 'text\tlabel\nA\t0\nb\t1\n'],
    ['a label', 'text\tlabel\na\t1\nb\t0\n'],
    ['a class name', 'text\tlabel\na\t0\nb\t2\n'],
    ['the order', 'text\tlabel\nb\t1\na\t0\n'],
    ['another row', `${table}b\t1\n`],
    ['a pair', 'text_a\ttext_b\tlabel\na\tb\t0\nb\tc\t1\n'],
  ])('changes with %s', async (_, changed) => {
    expect((await read(changed)).fingerprint).not.toBe((await read(table)).fingerprint);
  });

  it('covers every row of a long table', async () => {
    const long = (last: string) => `text\tlabel\n${'same\t0\n'.repeat(3000)}${last}\t1\n`;
    expect((await read(long('a'))).fingerprint).not.toBe((await read(long('b'))).fingerprint);
  });
});

describe('errors', () => {
  it.each([
    ['empty.tsv', '', 'empty.tsv', 'empty'],
    ['blank.tsv', ' \n\n', 'blank.tsv', 'empty'],
    ['headers.tsv', 'text\tlabel\n\n', 'headers.tsv', 'rows below the header'],
    ['columns.tsv', 'sentence\tscore\na\t1\n', 'columns.tsv:1', '"sentence", "score"', '"text_a"'],
    ['no label.tsv', 'text\na\n', 'no label.tsv:1', '"label"'],
    ['half a pair.tsv', 'text_a\tlabel\na\t1\n', 'half a pair.tsv:1', '"text_b"'],
    ['repeated.tsv', 'text\tlabel\tlabel\na\t1\t1\n', 'repeated.tsv:1', 'twice'],
    ['few cells.tsv', 'text\tlabel\na\t0\n\nb\n', 'few cells.tsv:4', 'expected 2 cells', 'got 1'],
    ['many cells.tsv', 'text\tlabel\na\t0\nb\tc\t1\n', 'many cells.tsv:3', 'got 3'],
    ['no text.tsv', 'text\tlabel\na\t0\n \t1\n', 'no text.tsv:3', 'no text'],
    ['no label.tsv', 'text\tlabel\na\t0\nb\t\n', 'no label.tsv:3', 'no label'],
    ['no pair.tsv', 'text_a\ttext_b\tlabel\na\tb\t0\na\t\t1\n', 'no pair.tsv:3', 'no text_b'],
    ['one class.tsv', 'text\tlabel\na\t1\nb\t1.0\n', 'one class.tsv', 'two different labels', '"1"'],
    ['quotes.csv', 'text,label\n"a\nb",0\n"c" d,1\n', 'quotes.csv:4', 'quote'],
    ['open.csv', 'text,label\n"a\nb",0\n"c,1\nd,0\n', 'open.csv:4', 'unterminated'],
    ['lines.csv', 'text,label\n"a\n\nb",0\nc\n', 'lines.csv:5', 'got 1'],
    ['broken.jsonl', '{"text":"a","label":1}\n{"text":\n', 'broken.jsonl:2', 'not JSON'],
    ['array.jsonl', '{"text":"a","label":1}\n[1]\n', 'array.jsonl:2', 'JSON object'],
    ['null.jsonl', 'null\n', 'null.jsonl:1', 'JSON object'],
    ['type.jsonl', '{"text":"a","label":1}\n{"text":5,"label":0}\n', 'type.jsonl:2', 'string', '5'],
    ['absent.jsonl', '{"text":"a","label":1}\n{"label":0}\n', 'absent.jsonl:2', 'no text'],
    ['later.jsonl', '{"text":"a","label":1}\n{"text":"b","text_b":"c","label":0}\n', 'later.jsonl:1', 'no text_b'],
    ['keys.jsonl', '{"sentence":"a","label":1}\n', 'keys.jsonl:1', '"sentence"'],
    ['prototype.jsonl', '{"__proto__":{"text":"a"},"label":1}\n', 'prototype.jsonl:1', '"__proto__"'],
    ...['text', 'label', 'tokens'].map((name): [string, string, string, string] => [
      'deep.jsonl',
      `{"text":"a","label":1,"${name}":${'['.repeat(5000)}${']'.repeat(5000)}}`,
      'deep.jsonl:1',
      '100 levels',
    ]),
    ['long.jsonl', `{"text":"${'a'.repeat(1_000_001)}","label":1}`, 'long.jsonl:1', '1000000'],
    ['unknown.txt', 'text\tlabel\na\t0\n', 'unknown.txt', '.tsv, .csv, .jsonl, .conll or .parquet'],
  ])('rejects %s', async (path, text, ...parts) => {
    await expectDataError(read(text, path), ...parts);
  });

  it('rejects text that is not UTF-8, with the line number', async () => {
    const latin1 = Uint8Array.from([...bytesOf('text\tlabel\né\t0\ncaf'), 0xe9, ...bytesOf('\t1\n')]);
    await expectDataError(readTable(latin1, { path: 'latin.tsv' }), 'latin.tsv:3', 'UTF-8');
  });

  it('rejects a file that is too large', async () => {
    await expectDataError(readTable(new Uint8Array(500_000_001), { path: 'huge.tsv' }), 'huge.tsv', '500000000');
  });

  it('rejects a label that is not a number in regression', async () => {
    const text = 'text\tlabel\na\t0.5\nb\thigh\n';
    await expectDataError(read(text, 'a.tsv', { kind: 'regression' }), 'a.tsv:3', 'a number', '"high"');
    await expectDataError(read('text\tlabel\na\t1\nb\t1e999\n', 'a.tsv', { kind: 'regression' }), 'a.tsv:3');
  });

  it('reads any text, or rejects it with a DataError', async () => {
    const tokens = ['text', 'label', '\t', ',', '\n', '\r\n', '"', '{"text":"a","label":1}', '1', ' ', 'é', '\0'];
    const headers: Record<TextFormat, string> = { tsv: 'text\tlabel\n', csv: 'text,label\n', jsonl: '', conll: '' };
    const formats = fc.constantFrom<TextFormat>('tsv', 'csv', 'jsonl', 'conll');
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...tokens), { maxLength: 30 }), formats, async (parts, format) => {
        const outcome = await read(headers[format] + parts.join(''), 'any', { format }).catch(
          (reason: unknown) => reason,
        );
        expect(outcome instanceof DataError || (outcome as DataSet).rows.length > 0).toBe(true);
      }),
    );
  });

  it('shortens a long header in the message', async () => {
    const work = read(`${'x'.repeat(100_000)}\ty\n1\t2\n`);
    await expect(work).rejects.toThrow(/^.{1,300}$/);
  });
});

describe('faulty rows', () => {
  const holes = `text,label\n${Array.from({ length: 20 }, (_, row) => `row ${row},${row % 4 === 0 ? row % 8 : ''}\n`).join('')}`;

  it.each<[string, string, Options, ...string[]]>([
    [
      'holes.csv',
      holes,
      {},
      'holes.csv:3: the row has no label',
      '--skip-unlabelled',
      '15 of 20',
      ' 3, 4, 5, 7, 8, ..',
    ],
    ['few cells.tsv', 'text\tlabel\na\nb\t1\nc\n', {}, 'few cells.tsv:2', '2 of 3 rows', 'lines 2, 4)'],
    ['broken.jsonl', '{"text":"a","label":1}\n{\n[]\n', {}, 'broken.jsonl:2', '2 of 3', 'lines 2, 3)'],
    ['numbers.tsv', 'text\tlabel\na\t1\nb\tx\nc\ty\n', { kind: 'regression' }, ':3: ', '"x"', 'lines 3, 4)'],
  ])('are reported together: %s', async (path, text, options, ...parts) => {
    await expectDataError(read(text, path, options), ...parts);
  });

  it('of a development file are reported together', async () => {
    const like = await read('text\tlabel\na\tx\nb\ty\n');
    await expectDataError(
      read('text\tlabel\na\tz\nb\ty\nc\tw\n', 'dev.tsv', { like }),
      'dev.tsv:2',
      '"z"',
      'lines 2, 4)',
    );
  });

  it('without a label are left out if asked, with a warning', async () => {
    const warnings: string[] = [];
    onTestFinished(onWarning((message) => warnings.push(message)));
    const skipped = await read(holes, 'holes.csv', { skipUnlabelled: true });
    expect(skipped.rows.map(({ text, label }) => [text, label])).toEqual(
      [0, 4, 8, 12, 16].map((row) => [`row ${row}`, (row % 8) / 4]),
    );
    expect(warnings).toEqual(['holes.csv: left out 15 of 20 rows, which have no label']);
    const whole = await read(
      `text,label\n${[0, 4, 8, 12, 16].map((row) => `row ${row},${row % 8}\n`).join('')}`,
      'b.csv',
    );
    expect(skipped.fingerprint).toBe(whole.fingerprint);
  });

  it.each([
    ['{"text":"a"}\n{"text":"b","label":"x"}\n{"text":"c","label":"y"}\n', 'classification'],
    ['{"text":"a","labels":null}\n{"text":"b","labels":["x","y"]}\n{"text":"c","labels":["y"]}\n', 'multi-label'],
    [
      '{"tokens":["a"]}\n{"tokens":["b"],"ner_tags":["O"]}\n{"tokens":["c"],"ner_tags":["B-X"]}\n',
      'token-classification',
    ],
  ])('may be without a label in the first line of %s', async (text, kind) => {
    const { rows, kind: found } = await readTable(bytesOf(text), { path: 'a.jsonl', skipUnlabelled: true });
    expect([found, rows.length]).toEqual([kind, 2]);
  });

  it('without a label cannot be all rows, and other faults are still reported', async () => {
    const skipUnlabelled = true;
    await expectDataError(
      read('text\tlabel\na\t\n', 'none.tsv', { skipUnlabelled }),
      'expected a value of "label" in some rows, got none in 1',
    );
    await expectDataError(read('text\tlabel\na\t\n\t1\n', 'a.tsv', { skipUnlabelled }), 'a.tsv:3', 'no text');
    await expect(read('anchor\tpositive\na\tb\n', 'a.tsv', { skipUnlabelled })).rejects.toThrow(/but these are pairs/);
    await expect(read(holes, 'a.csv', { skipUnlabelled: 1 as never })).rejects.toThrow(
      /skipUnlabelled.*expected boolean/,
    );
  });

  it('with none of several labels are kept, unless the cell is missing', async () => {
    const separated = await readTable(bytesOf('text\tlabel\na\t\nb\tx|y\n'), {
      path: 'a.tsv',
      labelSeparator: '|',
      skipUnlabelled: true,
    });
    expect(separated.rows).toHaveLength(2);
    const lists = '{"text":"a","labels":["x"]}\n{"text":"b","labels":[]}\n{"text":"c","labels":null}\n';
    expect((await readTable(bytesOf(lists), { path: 'a.jsonl', skipUnlabelled: true })).rows).toHaveLength(2);
  });
});
