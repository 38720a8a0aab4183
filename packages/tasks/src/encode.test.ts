import { describe, expect, it } from 'vitest';
import { chooseMaxTokens } from './encode.js';

const upTo = (rows: number): number[] => Array.from({ length: rows }, (_, row) => row + 1);

describe('chooseMaxTokens', () => {
  it.each([
    ['the length of all rows if there are fewer than a hundred, in steps of eight', upTo(50), 56],
    ['the length of 99 of 100 rows', [...Array<number>(99).fill(16), 400], 16],
    ['the length of 198 of 200 rows, in any order', [400, ...Array<number>(197).fill(16), 24, 400], 24],
    ['the upper limit if rows are longer', [9, 9, 10_000], 128],
    ['the upper limit if there are no rows', [], 128],
  ])('returns %s', (_, counts, tokens) => {
    expect(chooseMaxTokens(counts, 128)).toBe(tokens);
  });
});
