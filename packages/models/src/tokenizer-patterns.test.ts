import { CheckpointError } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { checkParts } from './tokenizer-patterns.js';

const check = (Regex: string) => () => {
  checkParts({ pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', pattern: { Regex } }] } }, 'file');
};

describe('accepts the patterns of real tokenizers', () => {
  it.each([
    [
      'Llama 3',
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
    [
      'Qwen2',
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
    ['GPT-2', "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"],
    ['DeBERTa', ' {2,}'],
    ['DeepSeek', '\\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+'],
    ['BLOOM', ' ?[^(\\s|[.,!?…。，、।۔،])]+'],
    ['words within boundaries', '\\b\\w+\\b|^\\s+|\\s+$'],
    ['sets of sets', '[^\\W\\d_]+|[a-z&&[^aeiou]]+|[a-c[x-z]]{2,3}'],
  ])('%s', (_, pattern) => {
    expect(check(pattern)).not.toThrow();
  });
});

describe('rejects patterns that may not terminate, and names them', () => {
  it.each([
    ['(a+)+b', 'repeats a repetition'],
    ['(a|a)*b', 'or alternatives'],
    ['a{1,9}+b', 'repeats a repetition'],
    ['a{1,9}*b', 'repeats a repetition'],
    ['(a|aa)\\G+b', 'or alternatives'],
    ['(?:a{2,}|b)\\G{2}', 'repeats a repetition'],
    ['(?:(?:a?){9}b){2}', 'repeats a repetition'],
    ['\\s*\\s*\\s*b', 'two unbounded repetitions in a row'],
    ['a?a?a?a?a?a?a?a?a?a?aaaaaaaaaa', 'too many optional parts'],
    [`${'(?=(?:a|a)'.repeat(10)}b${')'.repeat(10)}`, 'too many optional parts'],
    ['(.)\\1+', 'refers back'],
    [`${'('.repeat(99)}a${')'.repeat(99)}`, 'too deep'],
  ])('%s', (pattern, why) => {
    expect(check(pattern)).toThrow(CheckpointError);
    expect(check(pattern)).toThrow(why);
    expect(check(pattern)).toThrow("the pre_tokenizer's regular expression");
  });
});
