import { describe, expect, it } from 'vitest';
import { fittingTokens } from './encode.js';

const upTo = (rows: number): number[] => Array.from({ length: rows }, (_, row) => row + 1);

describe('fittingTokens', () => {
  it.each([
    ['all of fewer than a hundred rows, in steps of eight', upTo(50), 56],
    ['99 of 100 rows', [...Array<number>(99).fill(16), 400], 16],
    ['198 of 200 rows, in any order', [400, ...Array<number>(197).fill(16), 24, 400], 24],
    ['the most that is allowed, where rows are longer', [9, 9, 10_000], 128],
    ['the most that is allowed, where there are no rows', [], 128],
  ])('holds %s', (_, counts, tokens) => {
    expect(fittingTokens(counts, 128)).toBe(tokens);
  });
});
