import { describe, expect, it } from 'vitest';
import { ConfigError } from '../errors.js';
import { learningRateFactor, type ScheduleName } from './schedule.js';

const plan = { totalSteps: 20, warmupSteps: 4 };
const factors = (name: ScheduleName): number[] =>
  Array.from({ length: plan.totalSteps }, (_, index) => learningRateFactor(name, index + 1, plan));

describe('learningRateFactor', () => {
  it.each<ScheduleName>(['linear', 'cosine', 'constant'])(
    '%s rises in even steps, reaches 1 and is never 0',
    (name) => {
      expect(factors(name).slice(0, 5)).toEqual([0.2, 0.4, 0.6, 0.8, 1]);
      expect(Math.min(...factors(name))).toBeGreaterThan(0);
    },
  );
  it('falls in even steps, to one step above zero', () => {
    expect(factors('linear').slice(4)).toEqual(Array.from({ length: 16 }, (_, index) => 1 - index / 16));
  });
  it('falls along half a cosine', () => {
    expect(factors('cosine')[12]).toBeCloseTo(0.5, 12);
  });
  it('stays', () => {
    expect(new Set(factors('constant').slice(4))).toEqual(new Set([1]));
  });
  it('starts at 1 without a warm-up', () => {
    expect(learningRateFactor('linear', 1, { totalSteps: 3, warmupSteps: 0 })).toBe(1);
  });
  it('refuses another name from the first step on', () => {
    expect(() => learningRateFactor('step' as ScheduleName, 1, plan)).toThrow(ConfigError);
  });
});
