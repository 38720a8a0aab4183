import * as v from 'valibot';
import { assertOneOf, describe, parseOptions } from '../config.js';
import type { TrainPlan } from '../contracts/controller.js';
import { ConfigError } from '../errors.js';
import { assertNamed, type Named } from '../settings.js';

const warmups = ['positive', 'transformers'] as const;

/**
 * How the learning rate rises to its peak at step w + 1, after w warmup steps. At step s = 1, 2, .. w the factor is s /
 * (w + 1) for 'positive', which is never 0, or (s - 1) / w for 'transformers', which starts at 0.
 */
export type Warmup = (typeof warmups)[number];

/** A learning-rate schedule: a value with a name and plain settings. */
export interface Schedule extends Named {
  /** The form of the warmup. Default 'positive'. */
  readonly warmup?: Warmup;
  /**
   * Returns the factor of the learning rate after warmup, at least 0.
   * @param progress the share of the steps after warmup that are done, from 0 to below 1
   */
  decay(progress: number): number;
}

/** A schedule whose settings include its warmup, ready to be compared, written and run. */
export type ResolvedSchedule = Required<Schedule>;

/** Options of this package's schedules. */
export interface ScheduleOptions {
  /** The form of the warmup. Default 'positive'. */
  readonly warmup?: Warmup;
}

/** Falls linearly to 0: 1 - progress. With transformers' warmup it is `get_linear_schedule_with_warmup`. */
export function linear(options: ScheduleOptions = {}): Schedule {
  return { name: 'linear', ...parsed('linear', options), decay: (progress) => 1 - progress };
}

/**
 * Falls to 0 along half a cosine: (1 + cos(pi progress)) / 2. With transformers' warmup it is
 * `get_cosine_schedule_with_warmup`.
 */
export function cosine(options: ScheduleOptions = {}): Schedule {
  return {
    name: 'cosine',
    ...parsed('cosine', options),
    decay: (progress) => 0.5 * (1 + Math.cos(Math.PI * progress)),
  };
}

/** Stays at its peak. With transformers' warmup it is `get_constant_schedule_with_warmup`. */
export function constant(options: ScheduleOptions = {}): Schedule {
  return { name: 'constant', ...parsed('constant', options), decay: () => 1 };
}

const named = { linear, cosine, constant };

/** The name of one of this package's schedules. */
export type ScheduleName = keyof typeof named;

/**
 * Returns the schedule for a name, or checks a user's own.
 * @throws ConfigError for an unknown name, a value without a name (e.g. a bare function), and an invalid decay.
 */
export function resolveSchedule(schedule: ScheduleName | Schedule): ResolvedSchedule {
  if (typeof schedule === 'string') {
    assertOneOf('schedule', schedule, Object.keys(named));
    return resolveSchedule(named[schedule]());
  }
  assertNamed('schedule', schedule);
  const { name, settings, warmup = 'positive', decay } = schedule;
  assertOneOf('schedule.warmup', warmup, warmups);
  if (typeof decay !== 'function') {
    throw new ConfigError(`schedule.decay must be a function of progress, got ${describe(decay)}`, 'schedule.decay');
  }
  const resolved = { name, settings: { ...settings, warmup }, warmup, decay };
  decayAt(resolved, 0);
  return resolved;
}

/**
 * Returns the factor of the learning rate at step 1, 2, .. totalSteps: first the warmup, then the schedule's decay.
 * With the default warmup and this package's schedules, the factor is above zero at every step.
 * @throws ConfigError when a user's decay does not return a number of at least 0.
 */
export function learningRateFactor(
  schedule: ResolvedSchedule,
  step: number,
  { totalSteps, warmupSteps }: Pick<TrainPlan, 'totalSteps' | 'warmupSteps'>,
): number {
  if (step <= warmupSteps) {
    return schedule.warmup === 'positive' ? step / (warmupSteps + 1) : (step - 1) / warmupSteps;
  }
  return decayAt(schedule, (step - 1 - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
}

function parsed(name: ScheduleName, options: ScheduleOptions): { warmup: Warmup } {
  return parseOptions(name, { warmup: v.optional(v.picklist(warmups), 'positive') }, options);
}

function decayAt({ name, decay }: ResolvedSchedule, progress: number): number {
  const factor = decay(progress);
  if (Number.isFinite(factor) && factor >= 0) return factor;
  throw new ConfigError(
    `schedule '${name}': decay(${progress}) must be a number of at least 0, got ${describe(factor)}`,
    'schedule.decay',
  );
}
