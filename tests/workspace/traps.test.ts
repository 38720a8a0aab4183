import { describe, expect, it } from 'vitest';
import { filesBelow, isTestFile, textOf } from './repository.js';

/** The known ways to get these methods wrong are numbered; each has a test that is named after it. */
const TRAPS = Array.from({ length: 32 }, (_, index) => index + 1);

/** The traps that a test file names, e.g. `it('trap 7: ..')` or `describe('traps 1 and 2: ..')`. */
function trapsIn(text: string): number[] {
  const titles = [...text.matchAll(/(?:it|describe|it\.each\(.*\))\(\s*['"`](traps? [^:]*):/g)];
  return titles.flatMap(([, title]) => [...(title ?? '').matchAll(/\d+/g)].map(Number));
}

describe('every known trap has a test with its name', () => {
  const named = new Map<number, string[]>();
  for (const file of [...filesBelow('packages'), ...filesBelow('tests')]) {
    if (file.includes('node_modules') || file.includes('/dist/')) continue;
    const isTest = isTestFile(file) || file.startsWith('packages/conformance/src/');
    for (const trap of isTest ? trapsIn(textOf(file)) : []) named.set(trap, [...(named.get(trap) ?? []), file]);
  }

  it.each(TRAPS)('trap %i', (trap) => {
    expect(named.get(trap) ?? []).not.toEqual([]);
  });

  it('a number outside a title would not count', () => {
    expect(trapsIn(`it('trap 3: the sign', () => expect('trap 4:').toBe(5))`)).toEqual([3]);
    expect(trapsIn(`describe("traps 5 and 6: gradients", () => 0)`)).toEqual([5, 6]);
    expect(trapsIn(`// trap 7: told in a comment`)).toEqual([]);
  });
});

/** The mutations that tools/traps/check.ts applies. */
const mutations = JSON.parse(textOf('tools/traps/mutations.json')) as {
  trap: number;
  file: string;
  search: string;
  replace: string;
  test: string;
}[];

describe('every known trap has a mutation', () => {
  it.each(TRAPS)('trap %i', (trap) => {
    expect(mutations.map((mutation) => mutation.trap)).toContain(trap);
  });

  it.each(mutations)('in $file, for trap $trap: its text is there exactly once', ({ file, search, replace, test }) => {
    expect(textOf(file).split(search), search).toHaveLength(2);
    expect(replace).not.toBe(search);
    expect(isTestFile(test)).toBe(true);
    expect(textOf(test)).toMatch(/\b(?:it|describe|testMethod)\b/);
  });
});
