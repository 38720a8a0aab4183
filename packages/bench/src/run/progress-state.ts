/** Which trial it is, in the words of the plan. */
export interface TrialLabel {
  /** The arm's name. */
  readonly arm: string;
  readonly task: string;
  readonly seed: number;
  /** As typed; null for a method that takes none. */
  readonly budget: string | null;
}

/** What happens while a plan is run. */
export type ProgressEvent =
  | { readonly type: 'trial-start'; readonly id: string; readonly label: TrialLabel; readonly totalSteps: number }
  | StepEvent
  | {
      readonly type: 'trial-done';
      readonly id: string;
      readonly metrics: Readonly<Record<string, number>>;
      readonly seconds: number;
    }
  | { readonly type: 'trial-failed'; readonly id: string; readonly message: string }
  | { readonly type: 'trial-skipped'; readonly id: string }
  | { readonly type: 'trial-again'; readonly id: string; readonly message: string }
  | { readonly type: 'note'; readonly line: string };

/** How far a trial is. */
export interface StepEvent {
  readonly type: 'step';
  readonly id: string;
  readonly step: number;
  readonly totalSteps: number;
  readonly epoch: number;
  readonly epochs: number;
  /** Of a trial that is trained in stages: which one, from 0, and how many there are. */
  readonly stage?: { readonly stage: number; readonly stages: number };
  readonly loss: number;
  readonly storedParameters?: number;
  readonly metric?: { readonly name: string; readonly value: number };
}

/** A trial that is being run; times in ms. */
export interface RunningTrial {
  readonly label: TrialLabel;
  /** 0 while it is unknown. */
  readonly totalSteps: number;
  /** The first step that was heard of: what was spent before it (loading, compiling) says nothing about the rest. */
  readonly firstStep?: { readonly step: number; readonly at: number };
  readonly last?: StepEvent;
  /** The latest metric, which not every step has. */
  readonly metric?: StepEvent['metric'];
}

/** Everything that a display shows; times in ms. */
export interface ProgressState {
  /** Trials of the plan. */
  readonly total: number;
  readonly startedAt: number;
  readonly now: number;
  readonly running: ReadonlyMap<string, RunningTrial>;
  readonly done: number;
  readonly failed: number;
  /** Done by an earlier run. */
  readonly skipped: number;
  /** Steps of the trials that are done. */
  readonly doneSteps: number;
  /** Steps of the trials that failed, until they did. */
  readonly failedSteps: number;
}

/** Before the first event. */
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

/** The state after an event that came at `now`. */
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

/** The running trial that an event is about. */
export function trialOf({ running }: ProgressState, event: ProgressEvent): RunningTrial | undefined {
  return 'id' in event ? running.get(event.id) : undefined;
}

/** Share of a trial that is behind it. */
export function shareOf({ last, totalSteps }: RunningTrial): number {
  return last ? Math.min(1, last.step / Math.max(1, totalSteps)) : 0;
}

/** Share of the whole plan that is behind it. */
export function overallShare(state: ProgressState): number {
  const running = sum([...state.running.values()].map(shareOf));
  return state.total === 0 ? 1 : (state.done + state.failed + state.skipped + running) / state.total;
}

/** Seconds that a trial still takes at the pace of its steps so far; undefined until there are two. */
export function trialSecondsLeft({ firstStep, last, totalSteps }: RunningTrial, now: number): number | undefined {
  if (!firstStep || !last || last.step <= firstStep.step) return undefined;
  const pace = (now - firstStep.at) / (last.step - firstStep.step);
  return Math.max(0, (totalSteps - last.step) * pace) / 1000;
}

/**
 * Seconds that the plan still takes, at the pace of all steps of this run so far; trials of unknown length are taken to be as
 * long as the mean of the others. Undefined in the first seconds, which say little.
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
