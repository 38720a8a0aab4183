import * as v from 'valibot';
import { assertOneOf, describe, parseOptions } from '../config.js';
import type { TrainPlan } from '../contracts/method.js';
import { ConfigError } from '../errors.js';
import { assertNamed, type Named } from '../settings.js';

const warmups = ['positive', 'transformers'] as const;

/**
 * How the learning rate rises to its peak at step w + 1, after w steps of warm-up: at step s = 1, 2, .. w by s / (w + 1), which is
 * never 0, or as transformers has it by (s - 1) / w, whose first step is 0.
 */
export type Warmup = (typeof warmups)[number];

/** How the learning rate rises and falls over a run: a value with a name and plain settings. */
export interface Schedule extends Named {
  /** Default 'positive'. */
  readonly warmup?: Warmup;
  /** The factor of the learning rate after warm-up; at least 0. @param progress the share of the steps after it that are done, from 0 to below 1 */
  decay(progress: number): number;
}

/** A schedule whose settings hold its warm-up: as it is compared, written and run. */
export type ResolvedSchedule = Required<Schedule>;

/** What the schedules here can be told. */
export interface ScheduleOptions {
  /** Default 'positive'. */
  readonly warmup?: Warmup;
}

/** Falls to 0 in even steps: 1 - progress; with transformers' warm-up its `get_linear_schedule_with_warmup`. */
export function linear(options: ScheduleOptions = {}): Schedule {
  return { name: 'linear', ...parsed('linear', options), decay: (progress) => 1 - progress };
}

/** Falls to 0 along half a cosine: (1 + cos(pi progress)) / 2; with transformers' warm-up its `get_cosine_schedule_with_warmup`. */
export function cosine(options: ScheduleOptions = {}): Schedule {
  return {
    name: 'cosine',
    ...parsed('cosine', options),
    decay: (progress) => 0.5 * (1 + Math.cos(Math.PI * progress)),
  };
}

/** Stays at its peak; with transformers' warm-up its `get_constant_schedule_with_warmup`. */
export function constant(options: ScheduleOptions = {}): Schedule {
  return { name: 'constant', ...parsed('constant', options), decay: () => 1 };
}

const named = { linear, cosine, constant };

/** A schedule by its name alone. */
export type ScheduleName = keyof typeof named;

/**
 * The schedule that is meant: one of ours by its name, or a user's own value.
 * @throws ConfigError for an unknown name, a value without a name, as a bare function is, and a decay that is none.
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
 * The factor of the learning rate at step 1, 2, .. totalSteps: the warm-up, then the schedule's decay. With our own warm-up and
 * schedules every step has a factor above zero, the first and the last included.
 * @throws ConfigError when a user's decay gives no number of at least 0.
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
