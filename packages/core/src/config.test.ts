import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { integerFrom, parseOptions, positive } from './config.js';

const entries = {
  r: v.optional(integerFrom(1), 8),
  alpha: v.optional(positive, 16),
  mode: v.optional(v.picklist(['a', 'b']), 'a'),
};
const parse = (input: unknown) => parseOptions('lora', entries, input);

describe('parseOptions', () => {
  it('fills in defaults', () => {
    expect(parse({ r: 4 })).toEqual({ r: 4, alpha: 16, mode: 'a' });
  });

  it.each([
    [{ r: 0 }, 'r', /'r' is 0; expected >=1/],
    [{ r: 2.5 }, 'r', /'r' is 2\.5/],
    [{ r: '8' }, 'r', /'r' is '8'; expected number/],
    [{ r: 8n }, 'r', /'r' is 8; expected number/],
    [{ alpha: NaN }, 'alpha', /'alpha' is NaN/],
    [{ mode: 'c' }, 'mode', /'mode' is 'c'; expected \("a" \| "b"\)/],
  ])('rejects %o in one line that names the field', (input, path, message) => {
    expect(() => parse(input)).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path, message: expect.stringMatching(message) as string }),
    );
  });

  it('suggests the nearest name of a closed list', () => {
    const parsed = () => parseOptions('lora', { mode: v.picklist(['stable', 'random']) }, { mode: 'stabel' });
    expect(parsed).toThrow(`'mode' is 'stabel' (did you mean 'stable'?); expected ("stable" | "random")`);
  });

  it.each([null, 3, 'r=8', [8]])('rejects %j for options', (input) => {
    expect(() => parse(input)).toThrow(/options must be an object/);
  });

  it('rejects an unknown field, with the nearest known one', () => {
    expect(() => parse({ aplha: 4 })).toThrow(
      expect.objectContaining({
        code: 'PEFT_CONFIG',
        path: 'aplha',
        message: "lora: option 'aplha' is unknown (did you mean 'alpha'?); known are r, alpha, mode",
      }),
    );
  });
});
