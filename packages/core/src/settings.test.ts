import { describe, expect, it } from 'vitest';
import { assertNamed, describeNamed, type Named } from './settings.js';

const sgd: Named = { name: 'sgd', settings: { momentum: 0.9, nesterov: false, eps: [1, 2] } };

it('a named value is described with its settings', () => {
  expect(describeNamed(sgd)).toBe('sgd (momentum 0.9, nesterov false, eps [1,2])');
  expect(describeNamed({ name: 'linear', settings: { warmup: 'positive' } })).toBe('linear (warmup "positive")');
  expect(describeNamed({ name: 'lion' })).toBe('lion');
});

describe('assertNamed', () => {
  it.each<[unknown, string]>([
    [
      (x: number) => x,
      'schedule must be an object with a name, which identifies it when a run is resumed; got a function',
    ],
    [
      { decay: () => 1 },
      'schedule must be an object with a name, which identifies it when a run is resumed; got one whose name is missing',
    ],
    [
      { name: '' },
      "schedule must be an object with a name, which identifies it when a run is resumed; got one whose name is ''",
    ],
    [null, 'schedule must be an object with a name, which identifies it when a run is resumed; got null'],
    [{ name: 'steps', settings: 3 }, "schedule: the settings of 'steps' must be an object, got 3"],
    [
      { name: 'steps', settings: { at: NaN } },
      "schedule: setting 'at' of 'steps' must be text, a finite number, a boolean, null or a list of finite numbers, got NaN",
    ],
    [
      { name: 'steps', settings: { at: () => 1 } },
      "schedule: setting 'at' of 'steps' must be text, a finite number, a boolean, null or a list of finite numbers, got the function at",
    ],
  ])('rejects %o in one line', (value, message) => {
    expect(() => {
      assertNamed('schedule', value);
    }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'schedule', message }));
  });

  it('accepts a name alone, and plain settings', () => {
    expect(() => {
      assertNamed('loss', { name: 'hinge' });
      assertNamed('optimizer', sgd);
    }).not.toThrow();
  });
});
