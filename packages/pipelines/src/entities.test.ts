import { expect, it } from 'vitest';
import { entitiesOf, type AggregationStrategy } from './entities.js';

/** The entities of tokens with these tags: their types and texts. */
function found(
  strategy: AggregationStrategy,
  tokens: readonly (readonly [piece: string, tag: string, continuesWord?: boolean])[],
) {
  const labels = [...new Set(tokens.map(([, tag]) => tag))];
  let end = 0;
  const scored = tokens.map(([piece, tag, continuesWord = false], index) => ({
    index,
    span: { piece, start: end, end: (end += piece.length), continuesWord },
    scores: labels.map((label) => Number(label === tag)),
  }));
  const entities = entitiesOf(scored, strategy, { labels, join: (pieces) => pieces.join('') });
  return entities.map((one) => ('entity' in one ? [one.entity, one.word] : [one.entity_group, one.word]));
}

it.each([
  ['IOB2', ['B-LOC', 'I-LOC', 'B-LOC', 'O'], ['ab', 'c']],
  ['IOE2', ['I-LOC', 'E-LOC', 'E-LOC', 'O'], ['ab', 'c']],
  ['IOBES', ['B-LOC', 'E-LOC', 'S-LOC', 'O'], ['ab', 'c']],
  ['IOBES', ['B-LOC', 'I-LOC', 'E-LOC', 'O'], ['abc']],
  ['IOBES', ['S-LOC', 'S-LOC', 'I-LOC', 'O'], ['a', 'b', 'c']],
  ['no prefixes', ['LOC', 'LOC', 'LOC', 'O'], ['abc']],
])('entities begin and end where their tags say: %s %j', (_, tags, words) => {
  const tokens = tags.map((tag, index) => ['abcd'.charAt(index), tag] as const);
  expect(found('simple', tokens)).toEqual([...words.map((word) => ['LOC', word]), ['O', 'd']]);
});

it('E- and S- begin a type where no label begins with B- or I-', () => {
  const tokens = ['E-MAIL', 'E-MAIL', 'S-MAIL', 'S-MAIL', 'O'].map(
    (tag, index) => ['abcde'.charAt(index), tag] as const,
  );
  expect(found('simple', tokens).map(([, word]) => word)).toEqual(['ab', 'cd', 'e']);
});

it('words have the tag of their first token', () => {
  const tokens = [
    ['(', 'O'],
    ['Vi', 'B-LOC'],
    ['enna', 'B-PER', true],
    [')', 'O'],
  ] as const;
  for (const strategy of ['words', 'first'] as const) {
    expect(found(strategy, tokens)).toEqual([
      ['O', '('],
      ['LOC', 'Vienna'],
      ['O', ')'],
    ]);
  }
});
