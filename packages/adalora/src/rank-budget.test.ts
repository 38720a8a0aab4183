import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rankBudget } from './controller.js';

const schedule = { initialBudget: 864, targetBudget: 576, tinit: 100, tfinal: 300, totalSteps: 1000 };

describe('rankBudget', () => {
  it('trap 16: holds b0 until t_i and b_T from T - t_f on', () => {
    for (const step of [0, 1, 100]) expect(rankBudget(step, schedule)).toBe(864);
    for (const step of [700, 701, 1000]) expect(rankBudget(step, schedule)).toBe(576);
  });

  it('trap 16: falls by a cubic in between', () => {
    expect(rankBudget(400, schedule)).toBe(576 + 288 / 8);
    expect(rankBudget(550, schedule)).toBe(576 + 288 / 64);
  });

  it('trap 16: does not start above b0, as the numerator printed in the paper would', () => {
    const printed = (step: number): number => 576 + 288 * (1 - (step - 100 - 300) / (1000 - 100 - 300)) ** 3;
    expect(printed(100)).toBeGreaterThan(864);
    expect(printed(700)).toBeGreaterThan(576);
    expect(rankBudget(101, schedule)).toBeLessThan(864);
  });

  it('trap 16: never rises', () => {
    fc.assert(
      fc.property(fc.nat(200), fc.nat(200), fc.integer({ min: 1, max: 400 }), (tinit, tfinal, between) => {
        const course = { ...schedule, tinit, tfinal, totalSteps: tinit + tfinal + between };
        const budgets = Array.from({ length: course.totalSteps + 1 }, (_, step) => rankBudget(step, course));
        budgets.slice(1).forEach((budget, index) => expect(budget).toBeLessThanOrEqual(budgets[index] as number));
        expect(budgets[course.totalSteps]).toBe(576);
      }),
    );
  });
});
