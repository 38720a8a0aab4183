import { describe, expect, it } from 'vitest';
import { assertNamed, describeDifference, describeNamed, sameNamed, type Named } from './settings.js';

const sgd: Named = { name: 'sgd', settings: { momentum: 0.9, nesterov: false, eps: [1, 2] } };

describe('two named values', () => {
  it('are the same whatever the order of their settings, and after they were written and read', () => {
    expect(sameNamed(sgd, { name: 'sgd', settings: { eps: [1, 2], nesterov: false, momentum: 0.9 } })).toBe(true);
    expect(sameNamed(sgd, JSON.parse(JSON.stringify(sgd)) as Named)).toBe(true);
    expect(sameNamed({ name: 'a' }, { name: 'a', settings: {} })).toBe(true);
    expect(describeDifference(sgd, { ...sgd })).toBe('');
  });

  it.each<[Named, string]>([
    [{ name: 'sgd', settings: { ...sgd.settings, momentum: 0.5 } }, 'momentum 0.9, not 0.5'],
    [{ name: 'sgd', settings: { ...sgd.settings, eps: [2, 1] } }, 'eps [1,2], not [2,1]'],
    [{ name: 'sgd', settings: { momentum: '0.9', eps: [1, 2] } }, 'momentum 0.9, not "0.9"; nesterov false, not none'],
    [{ name: 'lion' }, 'sgd (momentum 0.9, nesterov false, eps [1,2]), not lion'],
  ])('differ from %j in one line', (other, difference) => {
    expect(sameNamed(sgd, other)).toBe(false);
    expect(describeDifference(sgd, other)).toBe(difference);
  });

  it('are described with their settings', () => {
    expect(describeNamed({ name: 'linear', settings: { warmup: 'positive' } })).toBe('linear (warmup "positive")');
  });
});

describe('assertNamed', () => {
  it.each<[unknown, string]>([
    [
      (x: number) => x,
      'schedule must be an object with a name, which tells it from others when a run is resumed; got a function',
    ],
    [
      { decay: () => 1 },
      'schedule must be an object with a name, which tells it from others when a run is resumed; got one whose name is missing',
    ],
    [
      { name: '' },
      "schedule must be an object with a name, which tells it from others when a run is resumed; got one whose name is ''",
    ],
    [null, 'schedule must be an object with a name, which tells it from others when a run is resumed; got null'],
    [{ name: 'steps', settings: 3 }, "schedule: the settings of 'steps' must be an object, got 3"],
    [
      { name: 'steps', settings: { at: NaN } },
      "schedule: setting 'at' of 'steps' must be text, a finite number, a truth value, null or a list of finite numbers, got NaN",
    ],
    [
      { name: 'steps', settings: { at: () => 1 } },
      "schedule: setting 'at' of 'steps' must be text, a finite number, a truth value, null or a list of finite numbers, got a function",
    ],
  ])('refuses %o in one line', (value, message) => {
    expect(() => {
      assertNamed('schedule', value);
    }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'schedule', message }));
  });

  it('takes a name alone, and plain settings', () => {
    expect(() => {
      assertNamed('loss', { name: 'hinge' });
      assertNamed('optimizer', sgd);
    }).not.toThrow();
  });
});
