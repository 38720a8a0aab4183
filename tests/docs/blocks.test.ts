import { describe, expect, it } from 'vitest';
import { textOf } from '../workspace/repository.js';

const region = (name: string): string =>
  (
    new RegExp(`#region ${name}\n([\\s\\S]*?)\\s*// #endregion ${name}`).exec(textOf('examples/two-lines.ts'))?.[1] ??
    ''
  )
    .replace(/^ {2}/gm, '')
    .trim();

/** The lines of a block of a page that were there before a change, and those that are there after it. */
function sidesOf(page: string): { before: string; after: string } {
  const lines = /```diff\n([\s\S]*?)```/.exec(textOf(page))?.[1]?.trimEnd().split('\n') ?? [];
  const side = (signs: string) => lines.filter((line) => signs.includes(line.charAt(0))).map((line) => line.slice(1));
  return { before: side(' -').join('\n'), after: side(' +').join('\n') };
}

describe('the two lines', () => {
  it('of the start page are those of the example', () => {
    expect(sidesOf('docs/index.md')).toEqual({ before: region('before'), after: region('after') });
  });

  it('of the README are those of the example', () => {
    const whole = /```ts\n([\s\S]*?)```/.exec(textOf('README.md'))?.[1]?.trim();
    expect(whole).toBe(region('before'));
    const [model, ...others] = region('after').split('\n');
    expect(model).toBe(whole?.split('\n')[0]);
    expect(sidesOf('README.md').after.split('\n')).toEqual(others);
  });
});
