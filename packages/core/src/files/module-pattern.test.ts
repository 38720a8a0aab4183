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
    'FFN.in',
    '(?i:ffn).IN',
    'f{2,1}n.in',
    '^',
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
    ['(?=a)a', '(?=a)a'],
    ['(?<!a)a', '(?<!a)a'],
    ['(a)\\1', '\\\\1'],
    ['(?i)a', '(?i)a'],
    ['\\ba', '\\\\ba'],
    ['a(b', '(b'],
    ['a)', ')'],
    ['[a', '[a'],
    ['[z-a]b', '[z-a]b'],
    ['*a', '*a'],
    ['a{1000}', '{1000}'],
  ])('rejects %s', (pattern, rest) => {
    expect(() => isMatch(pattern)).toThrow(CheckpointError);
    expect(() => isMatch(pattern)).toThrow(`cannot be read from "${rest}" on`);
    expect(() => isMatch(pattern)).toThrow('alpha_pattern');
  });

  it('rejects a pattern that is too long', () => {
    expect(() => isMatch('(a)'.repeat(500))).toThrow('1500 characters');
  });

  it('rejects patterns that take too long', () => {
    const many = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`${index}${'(a)'.repeat(300)}`, 1]));
    expect(() => patternTable('alpha_pattern', many)).toThrow(/after too many others/);
    const find = patternTable('alpha_pattern', { ['((((a?b?)*.?)*.?)*.?)*!'.repeat(40)]: 1 });
    expect(() => Array.from({ length: 10_000 }, () => find('ab'.repeat(50)))).toThrow(/too long to match/);
    const empty = patternTable('alpha_pattern', { [`.*(${'|'.repeat(980)}){999}!`]: 1 });
    expect(() => empty('ab'.repeat(50))).toThrow(/too long to match/);
  });
});
