import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodedRows } from '../test/files.js';
import { chooseBuckets, planBatches } from './buckets.js';

const lengthLists = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 60 });

/** Positions computed with these buckets, by making the batches. */
function positions(lengths: readonly number[], batchSize: number, buckets: readonly number[]): number {
  const plans = planBatches(encodedRows(lengths), lengths.keys(), { batchSize, buckets });
  return plans.reduce((total, { tokens }) => total + tokens * batchSize, 0);
}

/** Every set of at most `most` lengths that ends in the last one. */
function everyChoice(lengths: readonly number[], most: number): number[][] {
  const [last = 0] = lengths.slice(-1);
  return lengths
    .slice(0, -1)
    .reduce<number[][]>((sets, length) => [...sets, ...sets.map((set) => [...set, length])], [[]])
    .map((set) => [...set, last])
    .filter((set) => set.length <= most);
}

describe('chooseBuckets', () => {
  it('computes as little as any choice of lengths does', () => {
    fc.assert(
      fc.property(
        lengthLists,
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 4 }),
        (lengths, batchSize, most) => {
          const chosen = chooseBuckets([encodedRows(lengths)], { batchSize, maxShapes: most, multipleOf: 8 });
          const top = Math.ceil(Math.max(...lengths) / 8);
          const candidates = Array.from({ length: top }, (_, index) => 8 * (index + 1));
          const least = Math.min(...everyChoice(candidates, most).map((set) => positions(lengths, batchSize, set)));
          expect(chosen.length).toBeLessThanOrEqual(most);
          expect(positions(lengths, batchSize, chosen)).toBe(least);
        },
      ),
    );
  });

  it('never pads beyond the tokens that the model takes', () => {
    expect(chooseBuckets([{ ...encodedRows([50, 3]), maxTokens: 50 }], { batchSize: 1 })).toEqual([8, 50]);
  });

  it('gives a bucket for no data at all', () => {
    expect(chooseBuckets([], { batchSize: 4 })).toEqual([8]);
  });

  it.each(['batchSize', 'maxShapes', 'multipleOf'])('refuses a %s of 0', (name) => {
    expect(() => chooseBuckets([encodedRows([3])], { batchSize: 4, [name]: 0 })).toThrow(name);
  });
});
