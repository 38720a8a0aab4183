import { describe, expect, it } from 'vitest';
import { findNonJson, toJson, reviveNumbers } from './json.js';

describe('toJson', () => {
  it('writes non-finite numbers by name, and reads them back', () => {
    const text = toJson({ a: [Infinity, -Infinity, NaN, 1.5] });
    expect(text).toBe('{"a":["Infinity","-Infinity","NaN",1.5]}');
    expect(JSON.parse(text, reviveNumbers)).toEqual({ a: [Infinity, -Infinity, NaN, 1.5] });
  });
});

describe('findNonJson', () => {
  it.each<[string, unknown, string | undefined]>([
    ['plain data', { r: 4, targetModules: ['query', null], nested: { on: true } }, undefined],
    ['a field that is undefined, as if it were absent', { rankPattern: undefined }, undefined],
    ['a function', { nested: { init: () => 1 } }, 'nested.init'],
    ['NaN', { scale: NaN }, 'scale'],
    ['a map', { ranks: new Map() }, 'ranks'],
    ['a hole in a list', { list: [1, undefined] }, 'list.1'],
  ])('finds values that a file cannot hold: %s', (_, value, path) => {
    expect(findNonJson(value)).toBe(path);
  });
});
