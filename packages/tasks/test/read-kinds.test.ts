import { memoryStorage } from '@peftjs/core';
import { ConfigError, DataError } from '@peftjs/core/method';
import fc from 'fast-check';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { readTable, readTask, type DataSet, type ReadTableOptions } from '@peftjs/tasks';
import { bytesOf, expectDataError } from './files.js';

type Options = Omit<ReadTableOptions, 'path'>;

const read = (path: string, text: string, options: Options = {}): Promise<DataSet> =>
  readTable(bytesOf(text), { path, ...options });
const jsonl = (...rows: readonly unknown[]): string => rows.map((row) => JSON.stringify(row)).join('\n');

describe('rows with several labels', () => {
  const rows = [
    { text: 'a', labels: [0, 1] },
    { text: 'b', labels: [] },
    { text: 'c', labels: [1] },
  ];

  it.each([
    ['label', 'a.jsonl'],
    ['labels', 'a.jsonl'],
  ])('have JSON lists in %s', async (column, path) => {
    const lists = [['spam', 'ad '], [], [' spam']].map((labels, row) => ({ text: 'abc'[row], [column]: labels }));
    expect(await read(path, jsonl(...lists))).toMatchObject({ kind: 'multi-label', classes: ['ad', 'spam'], rows });
  });

  it('have lists of integers, which are ordered by value', async () => {
    const { classes } = await read('a.jsonl', jsonl({ text: 'a', labels: [10, 9] }, { text: 'b', labels: [2] }));
    expect(classes).toEqual(['2', '9', '10']);
  });

  it.each([
    ['a.tsv', 'text\tlabel\na\tspam|ad\nb\t\nc\tspam\n'],
    ['a.csv', 'text,labels\na,"spam | ad"\nb,\nc,spam\n'],
  ])('have labels with a separator in %s', async (path, text) => {
    const found = await read(path, text, { labelSeparator: '|' });
    expect(found).toMatchObject({ kind: 'multi-label', classes: ['ad', 'spam'], rows });
  });

  it('may be of pairs', async () => {
    const { rows: pairs } = await read('a.jsonl', jsonl({ text_a: 'a', text_b: 'b', labels: ['x'] }));
    expect(pairs).toEqual([{ text: 'a', pair: 'b', labels: [0] }]);
  });

  it('have the classes of the training set', async () => {
    const train = await read('a.jsonl', jsonl({ text: 'a', labels: ['x', 'y'] }));
    const dev = await read('b.jsonl', jsonl({ text: 'b', labels: ['y'] }), { like: train });
    expect(dev).toMatchObject({ classes: ['x', 'y'], rows: [{ labels: [1] }] });
    const odd = read('b.jsonl', jsonl({ text: 'b', labels: [] }, { text: 'c', labels: ['z'] }), { like: train });
    await expectDataError(odd, 'b.jsonl:2', 'one of the training classes "x", "y", got "z"');
  });

  it.each<[string, string, Options, ...string[]]>([
    ['a 0 or 1 for each', jsonl({ text: 'a', labels: [0, 1, 0] }), {}, 'a.jsonl:1', '[0,1,0]', 'not a 0 or 1 for each'],
    [
      'a 0 or 1 for each of two',
      jsonl({ text: 'a', labels: [0, 1] }, { text: 'b', labels: [1, 0] }),
      {},
      'a.jsonl:1',
      '[0, 1]',
      'not a 0 or 1 for each',
    ],
    [
      'one label without a list',
      jsonl({ text: 'a', labels: ['x'] }, { text: 'b', labels: 'y' }),
      {},
      'a.jsonl:2',
      'a list',
      '"y"',
    ],
    ['a label that is not a text', jsonl({ text: 'a', labels: [{}] }), {}, 'a.jsonl:1', 'a list', '[{}]'],
    ['an empty label in a list', jsonl({ text: 'a', labels: ['x', ' '] }), {}, 'a.jsonl:1', 'labels', '["x"," "]'],
    ['no labels', jsonl({ text: 'a', labels: ['x'] }, { text: 'b' }), {}, 'a.jsonl:2', 'no labels'],
    ['no label anywhere', jsonl({ text: 'a', labels: [] }), {}, 'a.jsonl', 'a row with a label'],
    ['an empty label', jsonl({ text: 'a', label: 'x||y' }), { labelSeparator: '|' }, 'a.jsonl:1', '"x||y"'],
    [
      'no list though the kind is multi-label',
      jsonl({ text: 'a', label: 'x' }),
      { kind: 'multi-label' },
      'a.jsonl',
      '--label-separator',
    ],
  ])('are rejected: %s', async (_, text, options, ...parts) => {
    await expectDataError(read('a.jsonl', text, options), ...parts);
  });

  it('cannot be of another kind', async () => {
    const reading = read('a.jsonl', jsonl({ text: 'a', labels: ['x'] }), { kind: 'classification' });
    await expect(reading).rejects.toThrow("rows with several labels are of kind 'multi-label', not 'classification'");
  });
});

describe('tagged words', () => {
  const rows = [
    { words: ['EU', 'rejects', 'German'], tags: [1, 2, 0] },
    { words: ['Peter'], tags: [2] },
  ];
  const classes = ['B-MISC', 'B-ORG', 'O'];
  const conll =
    '-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\nGerman JJ B-NP B-MISC\n\n\nPeter NNP B-NP O\n';

  it.each([
    ['a.conll', conll],
    ['crlf.conll', conll.replaceAll('\n', '\r\n')],
    ['a.bio', conll.trimEnd()],
    ['a.iob', conll.replaceAll(' ', '\t')],
    ['trailing.conll', conll.replaceAll(/(\S)\n/g, '$1 \n')],
    ['comments.conll', '# id 5f domain=en\nEU B-ORG\nrejects O\nGerman B-MISC\n\n# text = Peter\nPeter O\n'],
    [
      'a.jsonl',
      jsonl(
        { tokens: ['EU', 'rejects', 'German'], ner_tags: ['B-ORG', 'O', 'B-MISC'] },
        { tokens: ['Peter'], ner_tags: ['O'] },
      ),
    ],
    [
      'tags.jsonl',
      jsonl(
        { id: 1, tokens: ['EU', 'rejects', 'German'], tags: ['B-ORG', 'O ', 'B-MISC'] },
        { tokens: ['Peter'], tags: ['O'] },
      ),
    ],
    [
      'text.jsonl',
      jsonl(
        { text: 'EU ..', tokens: ['EU', 'rejects', 'German'], ner_tags: ['B-ORG', 'O', 'B-MISC'] },
        { tokens: ['Peter'], ner_tags: ['O'] },
      ),
    ],
  ])('are read from %s', async (path, text) => {
    expect(await read(path, text)).toMatchObject({ kind: 'token-classification', classes, rows });
  });

  it('are read from any text file of their kind', async () => {
    const found = await read('a.txt', conll, { kind: 'token-classification' });
    expect(found).toMatchObject({ kind: 'token-classification', classes, rows });
    expect(await read('dev.txt', conll, { like: found })).toMatchObject({ rows });
  });

  it('have the same fingerprint in every file format', async () => {
    const [a, b] = [
      await read('a.conll', 'a O\nb B-X\n'),
      await read('b.jsonl', jsonl({ tokens: ['a', 'b'], tags: ['O', 'B-X'] })),
    ];
    expect(a.fingerprint).toBe(b.fingerprint);
    expect((await read('a.conll', 'a O\n\nb B-X\n')).fingerprint).not.toBe(a.fingerprint);
  });

  it('use integers as names of classes', async () => {
    const found = await read('a.jsonl', jsonl({ tokens: ['a', 'b', 'c'], ner_tags: [10, 0, 9] }));
    expect(found).toMatchObject({ classes: ['0', '9', '10'], rows: [{ tags: [2, 0, 1] }] });
  });

  it('are read from the named columns', async () => {
    const options = { textColumn: 'words', labelColumn: 'pos_tags' };
    const found = await read('a.jsonl', jsonl({ words: ['a', 'b'], pos_tags: ['N', 'V'], tags: ['O', 'O'] }), options);
    expect(found).toMatchObject({ kind: 'token-classification', classes: ['N', 'V'] });
  });

  it('keep punctuation, and blanks other than spaces', async () => {
    const { rows: [row] } = await read('a.conll', '# O\n\u00a0 O\n"a B-X\n'); // oxfmt-ignore
    expect(row).toMatchObject({ words: ['#', '\u00a0', '"a'] });
  });

  it.each<[string, string, ...string[]]>([
    ['one.conll', 'EU B-ORG\nrejects\n', 'one.conll:2', 'its tag', '"rejects"'],
    ['columns.conll', 'EU N B-ORG\n\nrejects O\n', 'columns.conll:3', 'expected 3 columns', 'got 2'],
    ['empty.conll', '-DOCSTART- -X- O O\n\n', 'empty.conll', 'sentences'],
    ['same.conll', 'a O\nb O\n', 'same.conll', 'two different tags', '"O"'],
    ['cut.jsonl', jsonl({ tokens: ['a', 'b'], tags: ['O'] }), 'cut.jsonl:1', 'a tag for each of 2 tokens, got 1'],
    ['none.jsonl', jsonl({ tokens: ['a'], tags: ['O'] }, { tokens: [], tags: [] }), 'none.jsonl:2', 'empty list'],
    [
      'text.jsonl',
      jsonl({ tokens: ['a'], tags: ['O'] }, { tokens: 'a', tags: ['O'] }),
      'text.jsonl:2',
      'a list',
      '"a"',
    ],
    ['blank.jsonl', jsonl({ tokens: ['a'], tags: [''] }), 'blank.jsonl:1', 'write O'],
    ['tagless.jsonl', jsonl({ tokens: ['a'] }), 'tagless.jsonl:1', '"ner_tags"'],
  ])('are rejected from %s', async (path, text, ...parts) => {
    await expectDataError(read(path, text), ...parts);
  });

  it('name the word whose tag is not in the training file', async () => {
    const train = await read('a.conll', conll);
    await expectDataError(
      read('b.conll', 'x O\n\ny O\nParis B-LOC\n', { like: train }),
      'b.conll:3',
      'tag of "Paris"',
      '"B-LOC"',
    );
  });

  it('cannot have named columns in CoNLL', async () => {
    await expect(read('a.conll', conll, { labelColumn: 'pos' })).rejects.toThrow(ConfigError);
  });

  it('are read from any text of tokens, or rejected with a DataError', async () => {
    const parts = fc.array(fc.constantFrom('a', 'O', 'B-X', ' ', '\t', '\n', '-DOCSTART-', '# id ', '\u00a0', '\0'), {
      maxLength: 30,
    });
    await fc.assert(
      fc.asyncProperty(parts, async (text) => {
        const outcome = await read('a.conll', `x O\ny B-Y\n${text.join('')}`).catch((reason: unknown) => reason);
        const rows = outcome instanceof DataError ? [] : (outcome as DataSet<'token-classification'>).rows;
        expect(rows.every(({ words, tags }) => words.length > 0 && tags.length === words.length)).toBe(true);
      }),
    );
  });
});

describe('texts to embed', () => {
  it.each([
    ['a.tsv', 'anchor\tpositive\nq\tp\n'],
    ['query.csv', 'query,positive\nq,p\n'],
    ['answers.jsonl', jsonl({ question: 'q', answer: 'p', id: 7 })],
  ])('are pairs in %s', async (path, text) => {
    expect(await read(path, text)).toMatchObject({ kind: 'pairs', classes: [], rows: [{ texts: ['q', 'p'] }] });
  });

  it('have types that count the texts of each kind', async () => {
    const storage = memoryStorage();
    await storage.write('a.tsv', bytesOf('anchor\tpositive\tnegative\nq\tp\tn\n'));
    const files = { train: 'a.tsv', dev: 'a.tsv', storage };
    const triplets = await readTask({ ...files, kind: 'triplets' });
    for (const { texts } of triplets.dev.rows) {
      expectTypeOf(texts[2]).toEqualTypeOf<string>();
      expectTypeOf(texts[3]).toEqualTypeOf<string | undefined>();
    }
    const pairs = await readTask({ ...files, kind: 'pairs' });
    expect(pairs.dev.rows.map(({ texts: [anchor, positive] }) => anchor.length + positive.length)).toEqual([2]);
    const either = await readTask(files);
    const anchors = either.dev.rows.map((row) => ('texts' in row ? row.texts[1].trim() : ''));
    expect(anchors).toEqual(['p']);
  });

  it('are triplets with a negative', async () => {
    const found = await read('a.tsv', 'anchor\tnegative\tpositive\nq\tn\tp\n');
    expect(found).toMatchObject({ kind: 'triplets', rows: [{ texts: ['q', 'p', 'n'] }] });
  });

  it.each([
    ['a.tsv', 'negative_10\tanchor\tnegative_2\tpositive\tnegative_1\nn10\tq\tn2\tp\tn1\n'],
    ['a.jsonl', jsonl({ anchor: 'q', positive: 'p', negative_1: 'n1', negative_2: 'n2', negative_10: 'n10' })],
  ])('have several negatives in %s, in the order of their numbers', async (path, text) => {
    expect(await read(path, text)).toMatchObject({
      kind: 'triplets',
      rows: [{ texts: ['q', 'p', 'n1', 'n2', 'n10'] }],
    });
  });

  it('have the same number of negatives in every row', async () => {
    const row = { anchor: 'q', positive: 'p', negative_1: 'n' };
    await expectDataError(read('a.jsonl', jsonl(row, { ...row, negative_2: 'm' })), 'a.jsonl:1', 'no negative_2');
    await expectDataError(read('a.jsonl', jsonl({ ...row, negative_2: 'm' }, row)), 'a.jsonl:2', 'no negative_2');
    expect(await read('a.jsonl', jsonl(row, { ...row, negative_2: 'm' }), { kind: 'pairs' })).toMatchObject({
      rows: [{ texts: ['q', 'p'] }, { texts: ['q', 'p'] }],
    });
  });

  it.each([
    ['a.tsv', 'text_a\ttext_b\tscore\na\tb\t.5\n'],
    ['sentences.jsonl', jsonl({ sentence1: 'a', sentence2: 'b', score: 0.5, genre: 'x' })],
  ])('have a score in %s', async (path, text) => {
    expect(await read(path, text)).toMatchObject({ kind: 'scored-pairs', rows: [{ texts: ['a', 'b'], score: 0.5 }] });
  });

  it.each([
    ['pairs', 'question,answer,label\nq,p,1\n', '"question", "answer" and "label"'],
    ['triplets', 'anchor,positive,negative,labels\nq,p,n,1\n', '"anchor", "positive", "negative" and "labels"'],
  ] as const)('do not ignore a label, unless the kind is given: %s', async (kind, text, columns) => {
    await expectDataError(read('a.csv', text), 'a.csv:1', columns, 'labelColumn', `--kind ${kind}`);
    expect(await read('a.csv', text, { kind })).toMatchObject({ kind, rows: [{}] });
  });

  it.each(['triplets', 'scored-pairs'] as const)(
    'do not ignore negatives or scores, unless the kind is given: %s',
    async (kind) => {
      const text = 'query,positive,negative,score\nq,p,n,0.5\n';
      await expectDataError(
        read('a.csv', text),
        'a.csv:1',
        '"query", "positive", "negative" and "score"',
        `--kind ${kind}`,
      );
      expect(await read('a.csv', text, { kind })).toMatchObject({ kind, rows: [{}] });
    },
  );

  it('are classified by a named label', async () => {
    const text = 'question,answer,label\nq,p,1\nq,n,0\n';
    const { kind, rows } = await read('a.csv', text, { labelColumn: 'label' });
    expect({ kind, rows }).toMatchObject({ kind: 'classification', rows: [{ text: 'q', pair: 'p', label: 1 }, {}] });
  });

  it('have scores on another scale', async () => {
    const text = 'text_a\ttext_b\tscore\na\tb\t5\nc\td\t1.25\n';
    const { rows } = await read('a.tsv', text, { scoreScale: 5 });
    expect(rows).toMatchObject([{ score: 1 }, { score: 0.25 }]);
    await expectDataError(read('a.tsv', text), 'a.tsv:2', 'between -1 and 1', 'got 5', 'scoreScale');
  });

  it('are of the given kind', async () => {
    const labelled = 'text_a\ttext_b\tlabel\na\tb\t0\nc\td\t1\n';
    expect(await read('a.tsv', labelled)).toMatchObject({ kind: 'classification' });
    expect(await read('a.tsv', labelled, { kind: 'pairs' })).toMatchObject({ rows: [{ texts: ['a', 'b'] }, {}] });
    expect(await read('a.tsv', labelled, { kind: 'scored-pairs' })).toMatchObject({
      rows: [{ score: 0 }, { score: 1 }],
    });
    const columns = { textColumn: 'q', pairColumn: 'a' };
    expect(await read('a.tsv', 'q\ta\nx\ty\n', columns)).toMatchObject({ kind: 'pairs' });
    expect(await read('a.tsv', 'q\ta\tnegative\nx\ty\tz\n', columns)).toMatchObject({ kind: 'triplets' });
    expect(await read('a.tsv', 'q\ta\tlabel\nx\ty\tz\nx\ty\tw\n', columns)).toMatchObject({ kind: 'classification' });
    await expectDataError(read('a.tsv', labelled, { kind: 'triplets' }), 'a.tsv:1', '"negative"');
  });

  it.each<[string, string, ...string[]]>([
    ['no positive', 'anchor\tpositive\nq\tp\nq\t\n', 'a.tsv:3', 'no positive'],
    ['a score that is not a number', 'text_a\ttext_b\tscore\na\tb\thigh\n', 'a.tsv:2', 'a number', '"high"'],
    ['one column', 'anchor\nq\n', 'a.tsv:1', '"anchor"', '"positive"'],
  ])('are rejected: %s', async (_, text, ...parts) => {
    await expectDataError(read('a.tsv', text), ...parts);
  });
});

describe('columns', () => {
  it.each<[string, string, Options]>([
    [
      "'labelSeparator' is for multi-label rows, but these are pairs",
      'anchor\tpositive\na\tb\n',
      { labelSeparator: '|' },
    ],
    [
      "'scoreScale' is for scored-pairs rows, but these are classification",
      'text\tlabel\na\t1\nb\t2\n',
      { scoreScale: 5 },
    ],
  ])('cannot have the option of another kind: %s', async (message, text, options) => {
    const reading = read('a.tsv', text, options);
    await expect(reading).rejects.toThrow(ConfigError);
    await expect(reading).rejects.toThrow(message);
  });

  it('are split at semicolons or tabs if the header is', async () => {
    const rows = [{ text: 'a, b; c', label: 1 }, { text: 'd', label: 0 }]; // oxfmt-ignore
    expect((await read('a.csv', 'text;label\n"a, b; c";1\nd;0\n')).rows).toEqual(rows);
    expect((await read('a.csv', 'text\tlabel\na, b; c\t1\nd\t0\n')).rows).toEqual(rows);
    expect((await read('a.csv', '\n"text",label\n"a, b; c",1\nd,0\n')).rows).toEqual(rows);
    await expectDataError(read('a.csv', 'text;label\n"a;1\nd;0\n'), 'a.csv:2', 'quote');
  });

  it('are found by the given names', async () => {
    const table = 'sentence,category,text\ngood,x,1\nbad,y,2\n';
    const found = await read('a.csv', table, { textColumn: 'sentence', labelColumn: 'category' });
    expect(found).toMatchObject({ classes: ['x', 'y'], rows: [{ text: 'good' }, { text: 'bad' }] });
    expect(await read('a.csv', table, { labelColumn: 'category' })).toMatchObject({
      rows: [{ text: '1' }, { text: '2' }],
    });
    const later = jsonl({ text: 'a', label: 1 }, { text: 'b', text_b: 'c', label: 0 });
    expect((await read('a.jsonl', later, { textColumn: 'text' })).rows).toMatchObject([{ text: 'a' }, { text: 'b' }]);
  });

  it('may have labels under the name that Hugging Face uses', async () => {
    const found = await read('a.jsonl', jsonl({ text: 'a', labels: 1 }, { text: 'b', labels: 0 }));
    expect(found).toMatchObject({ kind: 'classification', classes: ['0', '1'] });
  });

  it('are listed if one is missing', async () => {
    const reading = read('a.csv', 'sentence,label\na,b\n', { textColumn: 'sentense' });
    await expectDataError(reading, 'a.csv:1', '"sentense" (did you mean \'sentence\'?), got "sentence", "label"');
    await expectDataError(read('a.csv', 'sentence,category\na,b\n', { textColumn: 'sentence' }), 'a.csv:1', '"label"');
    await expectDataError(read('a.csv', 'sentence,category\na,b\n', { labelColumn: 'category' }), 'a.csv:1', '"text"');
  });

  it.each<[string, Options]>([
    ['textColumn', { textColumn: ' ' }],
    ['labelColumn', { labelColumn: 5 as never }],
    ['must be a different column', { textColumn: 'a', labelColumn: 'a' }],
    ['labelSeparator', { labelSeparator: '' }],
    ['scoreScale', { scoreScale: 0 }],
    ["option 'kind' is 'pair' (did you mean 'pairs'?)", { kind: 'pair' as never }],
  ])('are rejected if they are impossible: %s', async (part, options) => {
    const reading = read('a.csv', 'a,label\nx,1\ny,0\n', options);
    await expect(reading).rejects.toThrow(ConfigError);
    await expect(reading).rejects.toThrow(part);
  });
});
