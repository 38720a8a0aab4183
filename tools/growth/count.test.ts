import { expect, it } from 'vitest';
import { codeLines, exportedNames, parsed, testCount } from './count.js';

it.each([
  ['const a = 1; // reason', 1],
  ['/** what\n * it is */\nconst a = 1;', 1],
  ['// reason\n\n  \nf(\n  1,\n);\n', 3],
  ['const url = "http://x"; /* a\nb */ const b = 2;', 2],
  ['const text = `\n// text\n`;', 3],
  ['', 0],
])('%j has %d lines of code', (text, lines) => {
  expect(codeLines(parsed('a.ts', text))).toBe(lines);
});

it('exported names are those that an entry lists or declares', () => {
  const entry =
    "export { a, b as c } from './a.js'; export type { D } from './d.js'; export const e = 1, f = 2; export function g() {} const h = 1;";
  expect(exportedNames(parsed('index.ts', entry))).toEqual(['a', 'c', 'D', 'e', 'f', 'g']);
});

it('a table of cases is one test', () => {
  const tests =
    "describe('x', () => { it('a', f); it.each([1, 2])('b', f); });\ntest.skipIf(c)('d', f);\nitems.push(1);";
  expect(testCount(parsed('a.test.ts', tests))).toBe(3);
});
