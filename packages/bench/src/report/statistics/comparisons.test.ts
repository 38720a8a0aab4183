import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../test/synthetic-results.js';
import type { DoneTrial } from '../../results/schema.js';
import { armsOf, comparable, grouped } from './comparisons.js';

const [one, two] = [1, 2].map((seed) => syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed })) as [
  DoneTrial,
  DoneTrial,
];

/** The same record with its fields, and those within, in the opposite order. */
function turned<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const fields = Object.entries(value).map(([key, inner]) => [key, turned(inner)] as const);
  return Object.fromEntries(fields.reverse()) as T;
}

describe('arms', () => {
  it.each(['protocol', 'engine', 'versions', 'methodConfig'] as const)(
    'are one where the fields of %s are in another order',
    (field) => {
      const arms = armsOf([one, { ...two, [field]: turned(two[field]) }]);
      expect(arms.map(({ label, trials }) => [label, trials.length])).toEqual([['sora', 2]]);
    },
  );

  it('are two where a value is another one', () => {
    const other = { ...two, methodConfig: { ...two.methodConfig, loraAlpha: 1 } };
    expect(armsOf([one, other]).map(({ label }) => label)).toEqual(['sora (1)', 'sora (2)']);
  });
});

it('trials are comparable whatever the order of the fields of their engines', () => {
  expect(comparable(one, { ...two, engine: turned(two.engine) })).toBe(true);
  expect(comparable(one, { ...two, engine: { ...two.engine, threads: 2 } })).toBe(false);
});

it('keys of groups are compared by content', () => {
  expect(
    grouped(
      [
        { a: 1, b: 2 },
        { b: 2, a: 1 },
        { a: 2, b: 2 },
      ],
      (item) => item,
    ),
  ).toHaveLength(2);
});
