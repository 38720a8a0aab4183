import { describe, expect, it } from 'vitest';
import {
  createDataSet,
  describeRows,
  languageSet,
  metricsFor,
  mostFrequentScores,
  type RowsByKind,
  type TaskKind,
} from '@peftjs/tasks';

const setOf = <K extends TaskKind>(kind: K, classes: readonly string[], rows: readonly RowsByKind[K][]) =>
  createDataSet({ name: 'mine', kind, classes, rows });

/** Rows of classes, each with a text of its own. */
const ofClasses = (names: readonly string[]) => {
  const classes = [...new Set(names)];
  const rows = names.map((name, row) => ({ text: `text ${row}`, label: classes.indexOf(name) }));
  return setOf('classification', classes, rows);
};

describe('describeRows', () => {
  it('counts classes, the most frequent first, and repeated and shared texts', async () => {
    const rows = [
      { text: 'a', label: 1 },
      { text: 'b', label: 0 },
      { text: 'a', label: 1 },
    ];
    const reported = await setOf('classification', ['no', 'yes'], [...rows.slice(0, 1), { text: 'new', label: 0 }]);
    expect(describeRows(await setOf('classification', ['no', 'yes', 'never'], rows), { reported })).toEqual({
      name: 'mine',
      kind: 'classification',
      rows: 3,
      repeated: 1,
      shared: 1,
      classes: [
        { name: 'yes', count: 2 },
        { name: 'no', count: 1 },
      ],
    });
  });

  it('gives range and mean of numbers, rows without any label, and words of tags', async () => {
    const numbers = [1, 2, 6].map((label) => ({ text: `${label}`, label }));
    expect(describeRows(await setOf('regression', [], numbers)).numbers).toEqual({ minimum: 1, mean: 3, maximum: 6 });
    const scored = [{ texts: ['a', 'b'], score: 0.5 } as const];
    expect(describeRows(await setOf('scored-pairs', [], scored)).numbers).toMatchObject({ minimum: 0.5, maximum: 0.5 });
    const labels = [
      { text: 'a', labels: [0, 1] },
      { text: 'b', labels: [1] },
      { text: 'c', labels: [] },
    ];
    const several = describeRows(await setOf('multi-label', ['x', 'y'], labels));
    expect(several).toMatchObject({
      unlabelled: 1,
      classes: [
        { name: 'y', count: 2 },
        { name: 'x', count: 1 },
      ],
    });
    const tagged = [{ words: ['I', 'am', 'Ann'], tags: [0, 0, 1] }];
    expect(describeRows(await setOf('token-classification', ['O', 'B-PER'], tagged)).classes?.[0]?.count).toBe(2);
  });

  it('counts rows of pairs and conversations', async () => {
    const pairs = [{ texts: ['a', 'b'] }, { texts: ['a', 'b'] }] as const;
    expect(describeRows(await setOf('pairs', [], pairs))).toEqual({
      name: 'mine',
      kind: 'pairs',
      rows: 2,
      repeated: 1,
    });
    const said = [
      {
        messages: [
          { role: 'user', content: 'Hi' },
          { role: 'assistant', content: 'Hello' },
        ],
      },
    ] as const;
    const chat = await languageSet('chat', said);
    expect(describeRows(chat, { reported: chat })).toEqual({
      ...{ name: 'chat', kind: 'causal-lm' },
      ...{ rows: 1, repeated: 0, shared: 1 },
    });
  });

  it.each<[string, string[], { separator: string; labels: number } | undefined]>([
    ['alone and joined', ['food', 'staff', 'food|staff'], { separator: '|', labels: 2 }],
    ['only joined', ['food|staff', 'food|price', 'price|staff'], { separator: '|', labels: 3 }],
    ['with spaces', ['food', 'staff', 'food, staff'], { separator: ',', labels: 2 }],
    ['at semicolons', ['a;b', 'b', 'a', 'a;b;c', 'c'], { separator: ';', labels: 3 }],
    ['a city and its country', ['Paris, France', 'Lyon, France', 'Rome, Italy', 'Italy'], undefined],
    ['a size and a colour', ['S, red', 'S, blue', 'M, red', 'M, blue'], undefined],
    ['a class and its subclass', ['phones', 'phones, used', 'books', 'books, new'], undefined],
    ['decimal commas', ['1', '1,5', '2,5', '5', '2'], undefined],
    ['an empty part', ['a', 'b', 'a|b', 'a|'], undefined],
    ['one that joins nothing known', ['yes', 'no', 'either|or'], undefined],
  ])('sees joined labels: %s', async (_, names, joined) => {
    expect(describeRows(await ofClasses(names)).joinedLabels).toEqual(joined);
  });
});

describe('mostFrequentScores', () => {
  it('scores always giving the most frequent class', async () => {
    const rows = await ofClasses(Array.from({ length: 100 }, (_, row) => (row < 95 ? 'no' : 'yes')));
    const found = mostFrequentScores({ train: rows, dev: rows, metrics: metricsFor('classification') });
    expect(found?.answer).toBe('no');
    expect(found?.metrics.accuracy).toBe(0.95);
    expect(found?.metrics.macroF1).toBeCloseTo(0.487, 3);
  });

  it('scores the mean of numbers, the most frequent label and the most frequent tag, and nothing of pairs', async () => {
    const scores = async <K extends TaskKind>(kind: K, classes: string[], rows: RowsByKind[K][]) => {
      const set = await setOf(kind, classes, rows);
      return mostFrequentScores({ train: set, dev: set, metrics: metricsFor(kind, classes) });
    };
    const numbers = [1, 3].map((label) => ({ text: `${label}`, label }));
    expect(await scores('regression', [], numbers)).toEqual({
      answer: 2,
      metrics: { pearson: 0, spearman: 0, meanSquaredError: 1 },
    });
    const labels = [
      { text: 'a', labels: [0] },
      { text: 'b', labels: [0, 1] },
    ];
    expect((await scores('multi-label', ['x', 'y'], labels))?.metrics).toMatchObject({ microF1: 0.8, 'f1.y': 0 });
    const tagged = [{ words: ['I', 'am', 'Ann'], tags: [0, 0, 1] }];
    const tags = await scores('token-classification', ['O', 'B-PER'], tagged);
    expect([tags?.answer, tags?.metrics.entityF1, tags?.metrics.tokenAccuracy]).toEqual(['O', 0, 2 / 3]);
    expect(await scores('pairs', [], [{ texts: ['a', 'b'] }])).toBeUndefined();
  });
});
