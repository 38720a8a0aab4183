import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CheckpointError } from '../errors.js';
import { patternTable } from './module-pattern.js';

const PATH = 'encoder.layer.11.ffn.in';

const isMatch = (pattern: string, path = PATH) => patternTable('alpha_pattern', { [pattern]: 4 })(path) === 4;

describe('patternTable', () => {
  it.each([
    PATH,
    'ffn.in',
    'ffn.(in|out)',
    '^encoder.*',
    `^${PATH}`,
    'layer\\.\\d+\\.ffn\\.in',
    'layer\\.1[01]\\..*in$',
    '[a-z]+\\.in',
    '[^.]*',
    '(?:ffn|mlp)\\.i(n)?',
    'layer.\\d{2}.ffn.in',
    'layer.\\d{1,}.f{2,3}n.in',
    '(([\\w.])+)+',
    'ffn.in|other',
    '(?i:FFN).in',
    '(?P<block>ffn|mlp)\\.in',
    'ffn(?#the first).in\\Z',
  ])('finds a module by %s', (pattern) => {
    expect(isMatch(pattern)).toBe(true);
  });

  it.each([
    'in.',
    'n',
    'ffn',
    'encoder',
    '^ffn.in',
    'layer.\\d.ffn.in',
    'f{3}n.in',
    '(([\\w.])+)+!',
    '[^n]*',
    'i|n',
    '(?i:f(?-i:FN)).in',
    'FFN.in',
  ])('does not find it by %s', (pattern) => {
    expect(isMatch(pattern)).toBe(false);
  });

  it('returns the first of several matches', () => {
    expect(patternTable('alpha_pattern', { out: 1, '.*in': 2, 'ffn.in': 3 })(PATH)).toBe(2);
  });

  it('agrees with the engine of JavaScript where that finishes', () => {
    const part = fc.constantFrom('a', 'b', '.', '\\.', '[ab]', '[^a]', '(a|b)', '(?:ab|b.)', '^', '$', '\\w');
    const pattern = fc
      .array(fc.tuple(part, fc.constantFrom('', '', '*', '+?', '?', '{2}', '{0,2}')), { maxLength: 5 })
      .map((parts) => parts.map(([one, often]) => (/[$^]$/.test(one) ? one : one + often)).join(''));
    const path = fc.array(fc.constantFrom('a', 'b', '.'), { maxLength: 8 }).map((all) => all.join(''));
    fc.assert(
      fc.property(
        fc.oneof(
          pattern,
          fc.tuple(pattern, pattern).map((two) => two.join('|')),
        ),
        path,
        (tested, on) => {
          expect(isMatch(tested, on)).toBe(on === tested || new RegExp(`^(?:.*\\.)?(?:${tested})$`).test(on));
        },
      ),
      { numRuns: 2000, seed: 1 },
    );
  });

  it.each([
    ['(?=a)a', 'looks ahead or behind'],
    ['(?<!a)a', 'looks ahead or behind'],
    ['(a)\\1', 'refers back'],
    ['(?i)a', 'has a group that begins with (?'],
    ['\\ba', "has the escape '\\b'"],
    ['(', "'(' that is not closed"],
    ['a)', "')' that closes nothing"],
    ['[a', "'[' that is not closed"],
    ['*a', 'repeats nothing'],
    ['a{3,2}', 'more at least than at most'],
    ['((((a{50}){50}){50}){50})', 'repeats too much'],
    ['(){1000000000}', 'repeats too much'],
    [`${'('.repeat(60)}a${')'.repeat(60)}`, 'within each other'],
    ['(a)'.repeat(500), '1500 characters'],
  ])('rejects %s', (pattern, why) => {
    expect(() => isMatch(pattern)).toThrow(CheckpointError);
    expect(() => isMatch(pattern)).toThrow(why);
    expect(() => isMatch(pattern)).toThrow('alpha_pattern');
  });

  it('rejects a table that takes too long', () => {
    const table = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`(.?.?.?.?){30}${index}!`, 1]));
    expect(() => patternTable('alpha_pattern', table)).toThrow(/after too many others/);
    const find = patternTable('alpha_pattern', { '(.?.?.?.?){900}!': 1 });
    expect(() => Array.from({ length: 10_000 }, () => find('a'.repeat(100)))).toThrow(/too long to match/);
  });
});
