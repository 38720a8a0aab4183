import { expect, it } from 'vitest';
import { readColumns } from './columns.js';

it.each([
  [['review', 'stars', 'tags'], { textColumn: 'review', labelColumn: 'stars' }],
  [['text', 'label', 'tokens', 'tags'], {}],
  [['sentence1', 'sentence2', 'score', 'tags'], {}],
])('lists that the rows do not use are not read: %j', (columns, options) => {
  const read = readColumns(columns, options);
  expect(columns.filter((name) => read.includes(name))).toEqual(
    columns.filter((name) => !/^(tags|tokens)$/.test(name)),
  );
});

it('lists of words and tags are read', () => {
  expect(readColumns(['tokens', 'ner_tags'], {})).toEqual(expect.arrayContaining(['tokens', 'ner_tags']));
});
