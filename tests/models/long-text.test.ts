import { fromPretrained } from '@peftjs/models';
import { expect, it } from 'vitest';
import { bertFolder } from './bert-tiny.js';

it.each([
  ['a word so long that it is one unknown token, and another word', `${'x'.repeat(5000)} water`, false],
  ['as many such words as tokens', `${'x'.repeat(5000)} `.repeat(60), false],
  ['one word more', `${'x'.repeat(5000)} `.repeat(63), true],
  ['blanks before and after the last word', `${' '.repeat(33_000)}water${' '.repeat(5000)}`, false],
])('%s: the tokenizer says whether it truncated the text', async (_, text, truncated) => {
  const { tokenizer } = await fromPretrained(bertFolder);
  expect(tokenizer.encode(text).truncated).toBe(truncated);
  expect(tokenizer.encode('water', text).truncated).toBe(truncated);
  const words = text.split(' ').filter((word) => word !== '');
  expect(tokenizer.encode(text).ids).toEqual(tokenizer.encodeWords(words).ids);
});

it('reads a word completely after a call that truncated it', async () => {
  const { tokenizer } = await fromPretrained(bertFolder);
  const text = 'http://a.b.c/d-e-f/g see';
  const apart = text.replace(/\W/g, ' $& ');
  tokenizer.encode(text, undefined, { maxTokens: 6 });
  expect(tokenizer.tokenIds(text)).toEqual(tokenizer.tokenIds(apart));
  expect(tokenizer.encode(text)).toEqual(tokenizer.encode(apart));
  expect(tokenizer.encodeWords(text.split(' ')).ids).toEqual(tokenizer.encode(apart).ids);
});
