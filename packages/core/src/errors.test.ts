import { describe, expect, it } from 'vitest';
import { didYouMean, firstNames, nearestPaths } from './errors.js';

describe('didYouMean', () => {
  const methods = ['head', 'lora', 'adalora', 'sora', 'l1ra', 'truncated-lora'];

  it.each([
    ['lroa', 'lora'],
    ['soar', 'sora'],
    ['SoRA', 'sora'],
    ['adalroa', 'adalora'],
    ['truncated_lora', 'truncated-lora'],
    ['truncatedlora', 'truncated-lora'],
  ])('understands %s as %s', (name, meant) => {
    expect(didYouMean(name, methods)).toBe(` (did you mean '${meant}'?)`);
  });

  it.each(['', 'turbo', 'x'])('has no suggestion for %j', (name) => {
    expect(didYouMean(name, methods)).toBe('');
  });
});

describe('nearestPaths', () => {
  it('compares with the end of a path', () => {
    expect(nearestPaths(['layer.0.key', 'layer.0.query'], ['qurey'])[0]).toBe('layer.0.query');
  });
});

it.each([
  [[], 'none'],
  [['a', 'b', 'c'], 'a, b, c'],
  [['a', 'b', 'c', 'd'], 'a, b, c and 1 more'],
  [Array.from({ length: 3000 }, (_, index) => `a${index}`), 'a0, a1, a2 and 2,997 more'],
  [['a'.repeat(200)], `${'a'.repeat(100)}..`],
])('of names from a file, three are named: %#', (names, text) => {
  expect(firstNames(names)).toBe(text);
});
