import { describe, expect, it } from 'vitest';
import { syntheticTrial } from '../../../../cli/test/synthetic-results.js';
import type { DoneTrial } from '@peftjs/cli/results';
import { armsOf, comparable, grouped } from './comparisons.js';

const [one, two] = [1, 2].map((seed) => syntheticTrial({ task: 'uci-sentiment', method: 'sora', rank: 4, seed })) as [
  DoneTrial,
  DoneTrial,
];

/** The same value with its fields, also nested ones, in reverse order. */
function reversed<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const fields = Object.entries(value).map(([key, inner]) => [key, reversed(inner)] as const);
  return Object.fromEntries(fields.reverse()) as T;
}

describe('arms', () => {
  it.each(['protocol', 'engine', 'versions', 'methodConfig'] as const)(
    'are one if the fields of %s are in another order',
    (field) => {
      const arms = armsOf([one, { ...two, [field]: reversed(two[field]) }]);
      expect(arms.map(({ label, trials }) => [label, trials.length])).toEqual([['sora', 2]]);
    },
  );

  it('are two if a value differs', () => {
    const other = { ...two, methodConfig: { ...two.methodConfig, loraAlpha: 1 } };
    expect(armsOf([one, other]).map(({ label }) => label)).toEqual(['sora (1)', 'sora (2)']);
  });

  it('are not of rows that have changed; files without a hash of the rows are like those with one', () => {
    const sizes = (...trials: DoneTrial[]) => armsOf(trials).map((arm) => arm.trials.length);
    const three = { ...one, id: 'three', seed: 3 };
    expect(sizes({ ...one, content: 'a' }, { ...two, content: 'b' })).toEqual([1, 1]);
    expect(sizes({ ...one, content: 'a' }, two, { ...three, content: 'a' })).toEqual([3]);
    expect(sizes({ ...one, content: 'a' }, two, { ...three, content: 'b' })).toEqual([1, 1, 1]);
    expect(comparable({ ...one, content: 'a' }, { ...two, content: 'b' })).toBe(false);
  });
});

it('trials are comparable whatever the field order of their engines', () => {
  expect(comparable(one, { ...two, engine: reversed(two.engine) })).toBe(true);
  expect(comparable(one, { ...two, engine: { ...two.engine, threads: 2 } })).toBe(false);
});

it('group keys are compared by content', () => {
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
