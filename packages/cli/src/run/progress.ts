import { createLogUpdate } from 'log-update';
import { sum } from 'simple-statistics';
import stringWidth from 'string-width';
import { commandName } from '../registry/command-name.js';
import { formatClock, formatDuration, formatMetric, padded, printable } from '../format.js';
import type { Trial } from '../study/trials.js';
import {
  countOf,
  detailsOf,
  FRAME_MS,
  isLive,
  line,
  part,
  PLAIN,
  PLAIN_INTERVAL_MS,
  progressBarLine,
  shareNow,
  shareOf,
  stepped,
  terminalOf,
  type Part,
  type Steps,
  type Terminal,
} from './training-progress.js';
import type { TrialProgress } from './recorder.js';

/** Identifies a trial by its settings in the study. */
export type TrialLabel = Pick<Trial, 'arm' | 'task' | 'seed' | 'budget'>;

/**
 * Events of a run: a trial starts, compiles its training step, takes a step, ends, fails, is skipped because it already
 * has a result, or is tried again; or the run prints a note. `id` is the trial's id.
 */
export type ProgressEvent =
  | { readonly type: 'trial-start'; readonly id: string; readonly label: TrialLabel }
  | {
      readonly type: 'compiling';
      readonly id: string;
      /** How long it will take, in seconds. */
      readonly seconds: number;
    }
  | StepEvent
  | {
      readonly type: 'trial-done';
      readonly id: string;
      /** The trial's scores, by metric. */
      readonly metrics: Readonly<Record<string, number>>;
      /** Duration of the trial. */
      readonly seconds: number;
    }
  | { readonly type: 'trial-failed' | 'trial-again'; readonly id: string; readonly message: string }
  | { readonly type: 'trial-skipped'; readonly id: string }
  | { readonly type: 'note'; readonly line: string };

/** The progress of a trial. */
export type StepEvent = TrialProgress & { readonly type: 'step'; readonly id: string };

/** A running trial. */
type RunningTrial = Steps & {
  readonly label: TrialLabel;
  /** Its place in the order in which trials begin, from 1; those of an earlier run come first. */
  readonly number: number;
};

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
  /** Steps that this run took in trials that have ended; those before a checkpoint that it resumed from are not counted. */
  readonly takenSteps: number;
}

/** The state before the first event. */
export function initialProgress(total: number, now: number): ProgressState {
  const none = { done: 0, failed: 0, skipped: 0, doneSteps: 0, takenSteps: 0 };
  return { total, startedAt: now, now, running: new Map(), ...none };
}

/** The state after an event at the time `now`. */
export function advance(before: ProgressState, event: ProgressEvent, now: number): ProgressState {
  const state = { ...before, now };
  if (event.type === 'note') return state;
  if (event.type === 'trial-skipped') return { ...state, skipped: state.skipped + 1 };
  const running = new Map(state.running);
  const trial = running.get(event.id);
  const begun = state.done + state.failed + state.skipped + running.size;
  if (event.type === 'trial-start') running.set(event.id, { label: event.label, number: begun + 1 });
  else if (event.type === 'compiling') {
    if (trial) running.set(event.id, { ...trial, compileSeconds: event.seconds });
  } else if (event.type !== 'step') running.delete(event.id);
  else if (trial) running.set(event.id, { ...trial, ...stepped(trial, event, now) });
  const { step = 0, totalSteps = 0, resumedFrom = 0 } = trial?.last ?? {};
  const taken = (steps: number): number => state.takenSteps + steps - resumedFrom;
  return {
    ...state,
    running,
    ...(event.type === 'trial-done' && {
      done: state.done + 1,
      doneSteps: state.doneSteps + totalSteps,
      takenSteps: taken(totalSteps),
    }),
    ...(event.type === 'trial-failed' && { failed: state.failed + 1, takenSteps: taken(step) }),
  };
}

/** The running trial that an event belongs to. */
function trialOf({ running }: ProgressState, event: ProgressEvent): RunningTrial | undefined {
  return 'id' in event ? running.get(event.id) : undefined;
}

/** The finished share of the whole plan. */
function overallShare({ total, running, done, failed, skipped }: ProgressState): number {
  return total === 0 ? 1 : (done + failed + skipped + sum([...running.values()].map(shareOf))) / total;
}

/**
 * Estimates the plan's remaining seconds from the pace of all steps of this run. Trials of unknown length count as the
 * mean of the others. Undefined during the first three seconds, and before the first step.
 */
export function planSecondsLeft(state: ProgressState): number | undefined {
  const known = [...state.running.values()].flatMap(({ last }) => last ?? []);
  const toCome = state.total - state.skipped - state.done - state.failed - known.length;
  const behind = sum(known.map(({ step }) => step));
  const planned = sum(known.map(({ totalSteps }) => totalSteps));
  const elapsed = state.now - state.startedAt;
  const seen = state.takenSteps + behind - sum(known.map(({ resumedFrom = 0 }) => resumedFrom));
  if (elapsed < 3000 || seen === 0) return undefined;
  const meanSteps = (state.doneSteps + planned) / Math.max(1, state.done + known.length);
  const left = planned - behind + Math.max(0, toCome) * meanSteps;
  return (Math.max(0, left) * (elapsed / seen)) / 1000;
}

/** Renders the live lines: one per running trial, then one for the plan. No line is wider than `columns`. */
export function renderProgress(state: ProgressState, terminal: Terminal): string[] {
  const trials = [...state.running.values()].map((trial) => ({ trial, name: nameOf(trial.label) }));
  const width = Math.max(0, ...trials.map(({ name }) => stringWidth(name)));
  const lines = trials.map(({ trial, name }) =>
    progressBarLine(part(padded(name, width), 'bold'), shareNow(trial), detailsOf(trial, state.now), terminal),
  );
  return [...lines, planLine(state, terminal)];
}

function planLine(state: ProgressState, terminal: Terminal): string {
  const left = planSecondsLeft(state);
  const earlier = state.skipped > 0 ? ` (${state.skipped} earlier)` : '';
  const details = [
    part(`${state.done + state.skipped}/${state.total} done${earlier}`),
    ...(state.failed > 0 ? [part(`${state.failed} failed`, 'red', 1)] : []),
    part(`${formatClock((state.now - state.startedAt) / 1000)} elapsed`, 'dim', 3),
    ...(left === undefined ? [] : [part(`${formatClock(left)} left`, 'yellow', 2)]),
  ];
  return progressBarLine(part('all trials', 'bold', 6), overallShare(state), details, terminal);
}

/**
 * Renders the permanent line of a trial that has ended or was skipped, or of a note; undefined for other events.
 * `label` is the trial's, if known.
 */
export function renderOutcome(
  event: ProgressEvent,
  label: TrialLabel | undefined,
  terminal: Terminal,
): string | undefined {
  if (event.type === 'note') {
    const unbounded = { ...terminal, columns: Infinity }; // never cut: the end of a note says what to do
    return line([part('!', 'yellow'), part(printable(event.line))], unbounded);
  }
  const name = label ? nameOf(label) : printable(event.id);
  switch (event.type) {
    case 'trial-done':
      return line(
        [part('✓', 'green'), part(name), ...scoresOf(event.metrics), part(formatDuration(event.seconds), 'dim', 9)],
        terminal,
      );
    case 'trial-failed':
      return line([part('✗', 'red'), part(name), part(printable(event.message), 'red')], terminal);
    case 'trial-again':
      return line([part('!', 'yellow'), part(name), part(printable(event.message))], terminal);
    case 'trial-skipped':
      return line([part('–', 'dim'), part(name, 'dim'), part('already done', 'dim', 1)], terminal);
    default:
      return undefined;
  }
}

function scoresOf(metrics: Readonly<Record<string, number>>): Part[] {
  const scores = Object.entries(metrics).filter(([metric]) => !metric.startsWith('f1.')); // F1 by label is only in the result file
  return scores.map(([metric, value], index) =>
    part(`${printable(metric)} ${formatMetric(value)}`, undefined, index + 1),
  );
}

function nameOf({ arm, task, seed, budget }: TrialLabel): string {
  return printable([arm, budget, task, 'seed', seed].filter((item) => item !== null).join(' '));
}

/** A display of a run's progress. */
export interface Progress {
  /** Shows an event. */
  emit(event: ProgressEvent): void;
  /** Leaves the last state on the screen and restores the cursor. */
  close(): void;
}

/** Opens a display of `total` trials on `stream`: live on a terminal, otherwise occasional lines. */
export function openProgress(total: number, stream: NodeJS.WriteStream = process.stderr): Progress {
  return isLive(stream) ? terminalDisplay(total, stream) : plainDisplay(total, stream);
}

/** Shows the progress of `total` trials while `work` runs, and warnings as notes among it. */
export async function withProgress<T>(total: number, work: (progress: Progress) => Promise<T>): Promise<T> {
  const progress = openProgress(total);
  const before = show;
  show = (note) => {
    progress.emit({ type: 'note', line: note });
  };
  try {
    return await work(progress);
  } finally {
    show = before;
    progress.close();
  }
}

/** Redraws one line per running trial and one for the plan; lines of finished trials stay above. */
function terminalDisplay(total: number, stream: NodeJS.WriteStream): Progress {
  const log = createLogUpdate(stream);
  let state = initialProgress(total, performance.now());
  const draw = (): void => {
    state = { ...state, now: performance.now() };
    log(renderProgress(state, terminalOf(stream)).join('\n'));
  };
  const timer = setInterval(draw, FRAME_MS);
  timer.unref();
  return {
    emit(event) {
      const outcome = renderOutcome(event, trialOf(state, event)?.label, terminalOf(stream));
      state = advance(state, event, performance.now());
      if (outcome === undefined || event.type === 'trial-skipped') return;
      log.persist(outcome);
      draw();
    },
    close() {
      clearInterval(timer);
      draw();
      log.done();
    },
  };
}

/** Writes one plain line per event, but at most one line for steps per ten seconds. `now` is the clock. */
export function plainDisplay(
  total: number,
  stream: Pick<NodeJS.WritableStream, 'write'>,
  now = () => performance.now(),
): Progress {
  let state = initialProgress(total, now());
  let quietUntil = state.now + PLAIN_INTERVAL_MS;
  const runningLine = (event: ProgressEvent): string | undefined => {
    const trial = trialOf(state, event);
    const isNew = event.type === 'trial-start' || event.type === 'compiling';
    const isDue = isNew || (event.type === 'step' && state.now >= quietUntil);
    if (!trial || !isDue) return undefined;
    const place = `trial ${trial.number} of ${state.total} · ${nameOf(trial.label)}`;
    return line([part(place), ...countOf(trial), ...detailsOf(trial, state.now)], PLAIN);
  };
  return {
    emit(event) {
      const label = trialOf(state, event)?.label;
      state = advance(state, event, now());
      const text = renderOutcome(event, label, PLAIN) ?? runningLine(event);
      if (text === undefined) return;
      if (event.type === 'step') quietUntil = state.now + PLAIN_INTERVAL_MS;
      stream.write(`${text}\n`);
    },
    close() {
      stream.write(`${planLine({ ...state, now: now(), running: new Map() }, PLAIN)}\n`);
    },
  };
}

/** How warnings are shown. Replacing it repeats no earlier warnings, unlike a new handler of `onWarning`. */
let show = (message: string): void => {
  process.stderr.write(`${commandName}: ${message}\n`);
};

/** Shows a warning to the user: as its own line, or within the progress display. */
export function showWarning(message: string): void {
  show(printable(message));
}
