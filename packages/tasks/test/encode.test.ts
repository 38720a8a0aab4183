import { ConfigError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { createDataSet, encodeRows, type Row, type Tokenizer } from '@peftjs/tasks';

/**
 * Tokenises words; adds 0 before a text, between two texts and at the end. A text that is too long loses its last
 * words.
 */
const counting: Tokenizer = {
  truncations: ['longest_first', 'only_first', 'only_second'],
  encode(text, pair, { maxTokens, truncation }) {
    const [first, second] = [text.split(' ').map(Number), pair?.split(' ').map(Number) ?? []];
    const over = () => first.length + second.length + (pair === undefined ? 2 : 3) - maxTokens;
    const all = over();
    while (over() > 0) {
      const longest = first.length > second.length ? first : second;
      const cut = truncation === 'only_first' ? first : truncation === 'only_second' ? second : longest;
      if (cut.length === 0) break;
      cut.pop();
    }
    return { ids: [0, ...first, 0, ...(pair === undefined ? [] : [...second, 0])], truncated: all > 0 };
  },
};

const dataSet = (rows: readonly Omit<Row, 'label'>[]) =>
  createDataSet({
    name: 'pairs',
    kind: 'classification',
    classes: ['a', 'b'],
    rows: rows.map((row) => ({ ...row, label: 0 })),
  });
const pairs = dataSet([{ text: '1 2 3 4', pair: '5 6' }, { text: '1', pair: '5 6 7' }]); // oxfmt-ignore
const idsOf = async (options: Parameters<typeof encodeRows>[2], data = pairs) =>
  encodeRows(await data, counting, options).rows.map(({ ids }) => Array.from(ids));

describe('truncation', () => {
  it('shortens the longer text, unless another one is named', async () => {
    const shortened = [
      [0, 1, 2, 0, 5, 6, 0],
      [0, 1, 0, 5, 6, 7, 0],
    ];
    expect(await idsOf({ maxTokens: 7 })).toEqual(shortened);
    expect(await idsOf({ maxTokens: 7, truncation: 'longest_first' })).toEqual(shortened);
  });

  it('shortens the named text', async () => {
    expect((await idsOf({ maxTokens: 6, truncation: 'only_first' }, dataSet([{ text: '1 2 3', pair: '5 6' }])))[0]).toEqual([0, 1, 0, 5, 6, 0]); // oxfmt-ignore
    expect((await idsOf({ maxTokens: 6, truncation: 'only_second' }, dataSet([{ text: '1 2', pair: '5 6 7' }])))[0]).toEqual([0, 1, 2, 0, 5, 0]); // oxfmt-ignore
    expect(await idsOf({ maxTokens: 3, truncation: 'only_first' }, dataSet([{ text: '1 2' }]))).toEqual([[0, 1, 0]]);
  });

  it('counts the truncated rows', async () => {
    expect(encodeRows(await pairs, counting, { maxTokens: 7 }).truncated).toBe(1);
    expect(encodeRows(await pairs, counting, { maxTokens: 8, truncation: 'only_first' }).truncated).toBe(1);
  });

  it('rejects a row that is too long even without the text that may be truncated', async () => {
    const data = await dataSet([{ text: '1', pair: '2' }, { text: '1', pair: '5 6 7 8 9' }]); // oxfmt-ignore
    const work = () => encodeRows(data, counting, { maxTokens: 7, truncation: 'only_first' });
    expect(work).toThrow(/pairs: expected at most 7 tokens, but truncation 'only_first' leaves more of row 2/);
  });

  it('rejects truncation of a second text if there is none', async () => {
    const data = await dataSet([{ text: '1', pair: '2' }, { text: '1' }]);
    expect(() => encodeRows(data, counting, { maxTokens: 9, truncation: 'only_second' })).toThrow(ConfigError);
  });

  it('rejects a truncation that the tokenizer does not support', async () => {
    const { encode } = counting;
    const data = await pairs;
    const options = { maxTokens: 7, truncation: 'only_first' } as const;
    expect(() => encodeRows(data, { encode }, options)).toThrow(/longest_first, got 'only_first'/);
    expect(() => encodeRows(data, { encode, truncations: ['only_second'] }, options)).toThrow(ConfigError);
  });

  it.each([0, 1.5, NaN])('rejects %s tokens', async (maxTokens) => {
    const data = await pairs;
    expect(() => encodeRows(data, counting, { maxTokens })).toThrow(ConfigError);
  });
});
