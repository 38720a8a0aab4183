import { ConfigError } from '../errors.js';

/** How the learning rate falls after its warm-up. */
export type ScheduleName = 'linear' | 'cosine' | 'constant';

/**
 * The factor of the learning rate at step 1, 2, .. totalSteps: a linear warm-up to 1, then the schedule's decay.
 * Every step has a factor above zero, the first and the last included.
 */
export function learningRateFactor(
  schedule: ScheduleName,
  step: number,
  { totalSteps, warmupSteps }: { readonly totalSteps: number; readonly warmupSteps: number },
): number {
  if (step <= warmupSteps) return step / (warmupSteps + 1);
  const progress = (step - 1 - warmupSteps) / Math.max(1, totalSteps - warmupSteps);
  switch (schedule) {
    case 'constant':
      return 1;
    case 'linear':
      return 1 - progress;
    case 'cosine':
      return 0.5 * (1 + Math.cos(Math.PI * progress));
    default:
      throw new ConfigError(`schedule is '${String(schedule)}'; expected linear, cosine or constant`, 'schedule');
  }
}
