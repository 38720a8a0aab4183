import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { describeNamed, nameAndSettings } from '../settings.js';
import { constant, cosine, learningRateFactor, linear, resolveSchedule } from './schedules.js';
import type { Schedule, ScheduleName } from './schedules.js';

/** Values that tools/golden/optimizers.py computed with transformers. */
const { schedules: golden } = JSON.parse(
  await readFile(new URL('../../test/fixtures/optimizers.json', import.meta.url), 'utf8'),
) as { schedules: { name: ScheduleName; warmupSteps: number; totalSteps: number; factors: number[] }[] };

const makers = { linear, cosine, constant };
const plan = { totalSteps: 20, warmupSteps: 4 };
const factors = (schedule: ScheduleName | Schedule, { totalSteps, warmupSteps } = plan): number[] => {
  const resolved = resolveSchedule(schedule);
  return Array.from({ length: totalSteps }, (_, index) =>
    learningRateFactor(resolved, index + 1, { totalSteps, warmupSteps }),
  );
};

describe('the factor of the learning rate', () => {
  it.each<ScheduleName>(['linear', 'cosine', 'constant'])(
    '%s rises in even steps, reaches 1 and is never 0',
    (name) => {
      expect(factors(name).slice(0, 5)).toEqual([0.2, 0.4, 0.6, 0.8, 1]);
      expect(Math.min(...factors(name))).toBeGreaterThan(0);
    },
  );

  it('falls linearly, to one step above zero', () => {
    expect(factors('linear').slice(4)).toEqual(Array.from({ length: 16 }, (_, index) => 1 - index / 16));
  });

  it('falls along half a cosine', () => {
    expect(factors('cosine')[12]).toBeCloseTo(0.5, 12);
  });

  it('stays constant', () => {
    expect(new Set(factors('constant').slice(4))).toEqual(new Set([1]));
  });

  it('starts at 1 without a warm-up', () => {
    expect(factors('linear', { totalSteps: 3, warmupSteps: 0 })[0]).toBe(1);
  });

  it.each(golden)(
    '$name with the warm-up of transformers equals that of transformers ($warmupSteps of $totalSteps steps)',
    ({ name, factors: expected, ...steps }) => {
      const given = factors(makers[name]({ warmup: 'transformers' }), steps);
      expect(given).toEqual(expected.map((factor) => expect.closeTo(factor, 12) as number));
    },
  );

  it("follows a user's own decay, called with the share of steps done after the warm-up", () => {
    const seen: number[] = [];
    const decay = (progress: number): number => {
      seen.push(progress);
      return (1 - progress) ** 2;
    };
    const given = factors({ name: 'square', decay }, { totalSteps: 6, warmupSteps: 2 });
    expect(given).toEqual([1 / 3, 2 / 3, 1, 0.5625, 0.25, 0.0625]);
    expect(seen.slice(1)).toEqual([0, 0.25, 0.5, 0.75]);
  });
});

describe('a schedule', () => {
  it('can be given by name', () => {
    expect(nameAndSettings(resolveSchedule('cosine'))).toEqual(nameAndSettings(resolveSchedule(cosine())));
  });

  it("includes its warm-up in its settings, also a user's own", () => {
    const own = { name: 'square', settings: { power: 2 }, decay: () => 1 };
    expect(resolveSchedule(own).settings).toEqual({ power: 2, warmup: 'positive' });
    expect(describeNamed(resolveSchedule(linear({ warmup: 'transformers' })))).toBe('linear (warmup "transformers")');
    expect(nameAndSettings(resolveSchedule(own))).not.toEqual(
      nameAndSettings(resolveSchedule({ ...own, warmup: 'transformers' })),
    );
  });

  it.each<[unknown, string]>([
    ['cosin', "schedule is 'cosin' (did you mean 'cosine'?); expected linear, cosine, constant"],
    [() => 1, 'schedule must be an object with a name, which identifies it when a run is resumed; got a function'],
    [{ name: 'mine' }, 'schedule.decay must be a function of progress, got missing'],
    [{ name: 'mine', warmup: 'none', decay: () => 1 }, "schedule.warmup is 'none'; expected positive, transformers"],
    [{ name: 'mine', decay: () => NaN }, "schedule 'mine': decay(0) must be a number of at least 0, got NaN"],
  ])('%o is rejected in one line', (schedule, message) => {
    expect(() => resolveSchedule(schedule as Schedule)).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', message }),
    );
  });

  it('is rejected at the step whose factor is below 0', () => {
    expect(() =>
      factors({ name: 'mine', decay: (progress) => 0.5 - progress }, { totalSteps: 4, warmupSteps: 0 }),
    ).toThrow("schedule 'mine': decay(0.75) must be a number of at least 0, got -0.25");
  });

  it.each([
    [
      () => linear({ warmup: 'postive' as never }),
      "linear: option 'warmup' is 'postive' (did you mean 'positive'?); expected",
    ],
    [() => cosine({ warm: 3 } as never), "cosine: option 'warm' is unknown"],
  ])('%s is rejected for its options', (make, message) => {
    expect(make).toThrow(message);
  });
});
