import { assertOneOf } from '../config.js';

/** How the learning rate can fall after its warm-up. */
export const schedules = ['linear', 'cosine', 'constant'] as const;

/** How the learning rate falls after its warm-up. */
export type ScheduleName = (typeof schedules)[number];

/**
 * The factor of the learning rate at step 1, 2, .. totalSteps: a linear warm-up to 1, then the schedule's decay.
 * Every step has a factor above zero, the first and the last included.
 * @throws ConfigError for an unknown schedule.
 */
export function learningRateFactor(
  schedule: ScheduleName,
  step: number,
  { totalSteps, warmupSteps }: { readonly totalSteps: number; readonly warmupSteps: number },
): number {
  assertOneOf('schedule', schedule, schedules);
  if (step <= warmupSteps) return step / (warmupSteps + 1);
  const progress = (step - 1 - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  switch (schedule) {
    case 'constant':
      return 1;
    case 'linear':
      return 1 - progress;
    case 'cosine':
      return 0.5 * (1 + Math.cos(Math.PI * progress));
  }
}
