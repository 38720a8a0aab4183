/** Identifies a trial by its settings in the study. */
export interface TrialLabel {
  /** The name of the arm. */
  readonly arm: string;
  /** The name of the task. */
  readonly task: string;
  /** The seed. */
  readonly seed: number;
  /** The budget as typed; null for a method without one. */
  readonly budget: string | null;
}

/**
 * Events of a run: a trial starts, takes a step, ends, fails, is skipped because it already has a result, or is tried
 * again; or the run prints a note. `id` is the trial's id.
 */
export type ProgressEvent =
  | { readonly type: 'trial-start'; readonly id: string; readonly label: TrialLabel; readonly totalSteps: number }
  | StepEvent
  | {
      readonly type: 'trial-done';
      readonly id: string;
      /** The trial's scores, by metric. */
      readonly metrics: Readonly<Record<string, number>>;
      /** Duration of the trial. */
      readonly seconds: number;
    }
  | { readonly type: 'trial-failed'; readonly id: string; readonly message: string }
  | { readonly type: 'trial-skipped'; readonly id: string }
  | { readonly type: 'trial-again'; readonly id: string; readonly message: string }
  | { readonly type: 'note'; readonly line: string };

/** The progress of a trial. */
export interface StepEvent {
  /** The kind of event. */
  readonly type: 'step';
  /** The id of the trial. */
  readonly id: string;
  /** Steps done. */
  readonly step: number;
  /** Steps in total; 0 while unknown. */
  readonly totalSteps: number;
  /** Epochs done, as a fraction. */
  readonly epoch: number;
  /** Epochs in total. */
  readonly epochs: number;
  /** The stage of a trial in stages, from 0, and the number of stages. */
  readonly stage?: { readonly stage: number; readonly stages: number };
  /** The loss of the step. */
  readonly loss: number;
  /** The number of parameters that would be stored now. */
  readonly storedParameters?: number;
  /** The metric, after an evaluation. */
  readonly metric?: { readonly name: string; readonly value: number };
}

/** A running trial. Times are in milliseconds. */
export interface RunningTrial {
  /** The trial's settings. */
  readonly label: TrialLabel;
  /** Steps in total; 0 while unknown. */
  readonly totalSteps: number;
  /** The first step reported. The time before it (loading, compiling) does not predict the rest. */
  readonly firstStep?: { readonly step: number; readonly at: number };
  /** The last step reported. */
  readonly last?: StepEvent;
  /** The latest metric: not every step has one. */
  readonly metric?: StepEvent['metric'];
}

/** Everything that a display shows. Times are in milliseconds. */
export interface ProgressState {
  /** The number of trials in the plan. */
  readonly total: number;
  /** When the run started. */
  readonly startedAt: number;
  /** The current time. */
  readonly now: number;
  /** The running trials, by id. */
  readonly running: ReadonlyMap<string, RunningTrial>;
  /** Trials that this run has finished. */
  readonly done: number;
  /** Trials that have failed. */
  readonly failed: number;
  /** Trials that an earlier run has finished. */
  readonly skipped: number;
  /** Steps of the finished trials. */
  readonly doneSteps: number;
  /** Steps that failed trials took before failing. */
  readonly failedSteps: number;
}

/** The state before the first event. */
export function initialProgress(total: number, now: number): ProgressState {
  return {
    total,
    startedAt: now,
    now,
    running: new Map(),
    done: 0,
    failed: 0,
    skipped: 0,
    doneSteps: 0,
    failedSteps: 0,
  };
}

/** The state after an event at the time `now`. */
export function advance(state: ProgressState, event: ProgressEvent, now: number): ProgressState {
  if (event.type === 'note') return { ...state, now };
  const trial = state.running.get(event.id);
  switch (event.type) {
    case 'trial-start':
      return {
        ...state,
        now,
        running: withTrial(state, event.id, { label: event.label, totalSteps: event.totalSteps }),
      };
    case 'step':
      return trial
        ? { ...state, now, running: withTrial(state, event.id, stepped(trial, event, now)) }
        : { ...state, now };
    case 'trial-done':
      return {
        ...ended(state, event.id, now),
        done: state.done + 1,
        doneSteps: state.doneSteps + (trial?.totalSteps ?? 0),
      };
    case 'trial-failed':
      return {
        ...ended(state, event.id, now),
        failed: state.failed + 1,
        failedSteps: state.failedSteps + (trial?.last?.step ?? 0),
      };
    case 'trial-again':
      return ended(state, event.id, now);
    case 'trial-skipped':
      return { ...state, now, skipped: state.skipped + 1 };
  }
}

/** The running trial that an event belongs to. */
export function trialOf({ running }: ProgressState, event: ProgressEvent): RunningTrial | undefined {
  return 'id' in event ? running.get(event.id) : undefined;
}

/** The finished share of a trial. */
export function shareOf({ last, totalSteps }: RunningTrial): number {
  return last ? Math.min(1, last.step / Math.max(1, totalSteps)) : 0;
}

/** The finished share of the whole plan. */
export function overallShare(state: ProgressState): number {
  const running = sum([...state.running.values()].map(shareOf));
  return state.total === 0 ? 1 : (state.done + state.failed + state.skipped + running) / state.total;
}

/** Estimates a trial's remaining seconds from the pace of its steps; undefined until two steps are known. */
export function trialSecondsLeft({ firstStep, last, totalSteps }: RunningTrial, now: number): number | undefined {
  if (!firstStep || !last || last.step <= firstStep.step) return undefined;
  const pace = (now - firstStep.at) / (last.step - firstStep.step);
  return Math.max(0, (totalSteps - last.step) * pace) / 1000;
}

/**
 * Estimates the plan's remaining seconds from the pace of all steps of this run. Trials of unknown length count as the
 * mean of the others. Undefined during the first three seconds.
 */
export function planSecondsLeft(state: ProgressState): number | undefined {
  const known = [...state.running.values()].filter(({ totalSteps }) => totalSteps > 0);
  const toCome = state.total - state.skipped - state.done - state.failed - known.length;
  const behind = sum(known.map(({ last }) => last?.step ?? 0));
  const planned = sum(known.map(({ totalSteps }) => totalSteps));
  const elapsed = state.now - state.startedAt;
  const seen = state.doneSteps + state.failedSteps + behind;
  if (elapsed < 3000 || seen === 0) return undefined;
  const meanSteps = (state.doneSteps + planned) / Math.max(1, state.done + known.length);
  const left = planned - behind + Math.max(0, toCome) * meanSteps;
  return (Math.max(0, left) * (elapsed / seen)) / 1000;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function stepped(trial: RunningTrial, event: StepEvent, now: number): RunningTrial {
  const metric = event.metric ?? trial.metric;
  return {
    label: trial.label,
    totalSteps: event.totalSteps,
    firstStep: trial.firstStep ?? { step: event.step, at: now },
    last: event,
    ...(metric ? { metric } : {}),
  };
}

function withTrial(state: ProgressState, id: string, trial: RunningTrial): ReadonlyMap<string, RunningTrial> {
  return new Map(state.running).set(id, trial);
}

function ended(state: ProgressState, id: string, now: number): ProgressState {
  const running = new Map(state.running);
  running.delete(id);
  return { ...state, now, running };
}
