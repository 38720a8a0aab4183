import { expect, it } from 'vitest';
import { dealRanks, ranksThatFill } from './added-ranks.js';

const cost = (path: string): number => ({ a: 3, b: 2 })[path] ?? expect.fail(`no module '${path}'`);

it('deals ranks in turn until the count is reached', () => {
  expect(dealRanks(['b', 'a'], { count: 3, room: Infinity, cost })).toEqual({ b: 2, a: 1 });
});

it('skips a module whose rank cannot be paid for', () => {
  expect(dealRanks(['a', 'b'], { count: Infinity, room: 7, cost })).toEqual({ a: 1, b: 2 });
});

it('deals nothing to no modules', () => {
  expect(dealRanks([], { count: Infinity, room: Infinity, cost })).toEqual({});
});

it('fills the room with the ranks that leave least of it', () => {
  expect(ranksThatFill(['a', 'b'], 7, cost).sort()).toEqual(['a', 'b', 'b']);
  expect(ranksThatFill(['a'], 7, cost)).toEqual(['a', 'a']);
  expect(ranksThatFill(['a'], -1, cost)).toEqual([]);
});
