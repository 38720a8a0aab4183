import { fromPretrained } from '@peftjs/models';
import { expect, it } from 'vitest';
import { bertFolder } from './bert-tiny.js';

it.each([
  ['a word so long that it is one unknown token, and what follows it', `${'x'.repeat(5000)} water`, true],
  ['blanks after the last word', `water${' '.repeat(5000)}`, false],
])('%s: the tokenizer says whether text is lost', async (_, text, truncated) => {
  const { tokenizer } = await fromPretrained(bertFolder);
  expect(tokenizer.encode(text).truncated).toBe(truncated);
  expect(tokenizer.encode('water', text).truncated).toBe(truncated);
});
