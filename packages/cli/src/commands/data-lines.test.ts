import { createDataSet, languageSet, type RowsDescription } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import type { LoadedTask } from '../registry/tasks.js';
import type { TrialProtocol } from '../study/trials.js';
import { descriptionLines, reportData, scoreLine } from './data-lines.js';

const found = (description: Partial<RowsDescription>): RowsDescription => ({
  ...{ name: 'mine', kind: 'classification', rows: 40, repeated: 0 },
  ...description,
});

describe('what train says of the rows', () => {
  it('lists ten classes and how many more there are, and names those of one or two rows', () => {
    const classes = Array.from({ length: 12 }, (_, at) => ({ name: `c${at}`, count: 13 - at }));
    expect(descriptionLines(found({ classes }))).toEqual([
      'classes: c0 13, c1 12, c2 11, c3 10, c4 9, c5 8, c6 7, c7 6, c8 5, c9 4, and 2 more',
      'rare: c11: 2 rows; a typo, or a header in the middle of joined files?',
    ]);
    expect(descriptionLines(found({ classes: [{ name: 'weird', count: 1 }] }))[1]).toContain('weird: 1 row;');
  });

  it.each<[string, Partial<RowsDescription>, string[]]>([
    [
      'repeats and leaks',
      { repeated: 1200, rows: 2400, shared: 3 },
      [
        'repeated: 1,200 of 2,400 rows have the texts of an earlier row',
        'leaked: 3 reported rows with texts of the other rows, which flatters the score',
      ],
    ],
    [
      'numbers',
      { kind: 'regression', numbers: { minimum: -1, mean: 0.25, maximum: 150 } },
      ['labels: −1.000 to 150.0, mean 0.250'],
    ],
    [
      'labels',
      { kind: 'multi-label', classes: [{ name: 'a', count: 9 }], unlabelled: 2 },
      ['labels: a 9', 'without any label: 2 rows'],
    ],
    [
      'tags',
      { kind: 'token-classification', classes: [{ name: 'O', count: 1 }] },
      ['tags, in words: O 1', 'rare: O: 1 word; a typo, or a header in the middle of joined files?'],
    ],
    [
      'joined labels',
      { classes: [{ name: 'a|b', count: 9 }], joinedLabels: { separator: '|', labels: 2 } },
      ['classes: a|b 9', 'several labels in one cell? --label-separator "|" gives 2 labels instead of 1 classes'],
    ],
    ['pairs', { kind: 'pairs' }, []],
    ['a class that would steer the terminal', { classes: [{ name: '\u001b[2Ja', count: 9 }] }, ['classes:  [2Ja 9']],
  ])('describes %s', (_, description, lines) => {
    expect(descriptionLines(found(description))).toEqual(lines);
  });

  it('counts the rows of each set, and conversations', async () => {
    const rows = Array.from({ length: 40 }, (_, row) => ({ text: `text ${row}`, label: row % 2 }));
    const train = await createDataSet({ name: 'mine', kind: 'classification', classes: ['a', 'b'], rows });
    const protocol = { rows: null, devRows: null, selectionShare: 0.1, dataSeed: 0 } as TrialProtocol;
    const task = { ...train, train, dev: train, metrics: { primary: 'accuracy', metrics: {} } };
    const report = await reportData(task as unknown as LoadedTask, protocol);
    expect(report.lines[0]).toBe('data: 36 rows to train on, 4 to select checkpoints on, 40 to report on');
    expect(report.lines).toContain('leaked: 40 reported rows with texts of the other rows, which flatters the score');
    expect(report.mostFrequent?.answer).toBe('a');
    const chat = await languageSet('chat', [{ messages: [{ role: 'assistant', content: 'Hello' }] }]);
    const language = { name: 'chat', kind: 'causal-lm', train: chat, dev: chat } as unknown as LoadedTask;
    expect((await reportData(language, protocol)).lines[0]).toBe(
      'data, in conversations: 1 to train and select on, 1 to report on',
    );
  });

  it('scores the most frequent class beside the score, without the F1 of each label', () => {
    const metrics = { accuracy: 0.95, macroF1: 0.487, 'f1.no': 1 };
    expect(scoreLine(1, { answer: 'no', metrics })).toBe(
      'scored on 1 row; always answering "no" scores accuracy 0.950 and macroF1 0.487',
    );
    expect(scoreLine(20, undefined)).toBe('scored on 20 rows');
  });
});
