import { createLogUpdate } from 'log-update';
import stringWidth from 'string-width';
import { commandName } from '../registry/command-name.js';
import { formatClock, formatDuration, formatMetric, padded, printable } from '../format.js';
import { progressBarLine, detailsOf, line, terminalOf, type Part, type Terminal } from './progress-line.js';
import {
  advance,
  initialProgress,
  overallShare,
  planSecondsLeft,
  shareOf,
  trialOf,
  trialSecondsLeft,
  type ProgressEvent,
  type ProgressState,
  type RunningTrial,
  type TrialLabel,
} from './progress-state.js';

/** Renders the live lines: one per running trial, then one for the plan. No line is wider than `columns`. */
export function renderProgress(state: ProgressState, terminal: Terminal): string[] {
  const trials = [...state.running.values()];
  const names = trials.map(({ label }) => nameOf(label));
  const width = Math.max(0, ...names.map((name) => stringWidth(name)));
  return [
    ...trials.map((trial, index) => trialLine(trial, padded(names[index] ?? '', width), state.now, terminal)),
    planLine(state, terminal),
  ];
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
    return line([sign('!', 'yellow'), { text: printable(event.line), dispensable: 0 }], unbounded);
  }
  const name = label ? nameOf(label) : printable(event.id);
  switch (event.type) {
    case 'trial-done': {
      const metrics = Object.entries(event.metrics)
        .filter(([metric]) => !metric.startsWith('f1.')) // F1 by label is only in the result file
        .map(([metric, value]) => `${printable(metric)} ${formatMetric(value)}`);
      const parts = metrics.map((text, index): Part => ({ text, dispensable: index + 1 }));
      return line(
        [
          sign('✓', 'green'),
          { text: name, dispensable: 0 },
          ...parts,
          { text: formatDuration(event.seconds), tone: 'dim', dispensable: 9 },
        ],
        terminal,
      );
    }
    case 'trial-failed':
      return line(
        [
          sign('✗', 'red'),
          { text: name, dispensable: 0 },
          { text: printable(event.message), tone: 'red', dispensable: 0 },
        ],
        terminal,
      );
    case 'trial-again':
      return line(
        [sign('!', 'yellow'), { text: name, dispensable: 0 }, { text: printable(event.message), dispensable: 0 }],
        terminal,
      );
    case 'trial-skipped':
      return line(
        [
          sign('–', 'dim'),
          { text: name, tone: 'dim', dispensable: 0 },
          { text: 'already done', tone: 'dim', dispensable: 1 },
        ],
        terminal,
      );
    default:
      return undefined;
  }
}

/** Renders a running trial as plain text, without a bar. */
function renderStep(trial: RunningTrial, state: ProgressState, terminal: Terminal): string {
  const place = `[${state.done + state.failed + state.skipped}/${state.total}] ${nameOf(trial.label)}`;
  const steps = trial.last ? [{ text: `step ${trial.last.step}/${trial.totalSteps}`, dispensable: 4 }] : [];
  return line([{ text: place, dispensable: 0 }, ...steps, ...trialDetails(trial, state.now)], {
    ...terminal,
    color: false,
  });
}

function trialLine(trial: RunningTrial, name: string, now: number, terminal: Terminal): string {
  return progressBarLine(
    { text: name, tone: 'bold', dispensable: 0 },
    shareOf(trial),
    trialDetails(trial, now),
    terminal,
  );
}

function trialDetails(trial: RunningTrial, now: number): Part[] {
  const { last, metric } = trial;
  if (!last) return [{ text: 'preparing', tone: 'dim', dispensable: 1 }];
  return detailsOf({ ...last, metric, secondsLeft: trialSecondsLeft(trial, now) });
}

function planLine(state: ProgressState, terminal: Terminal): string {
  const left = planSecondsLeft(state);
  const earlier = state.skipped > 0 ? ` (${state.skipped} earlier)` : '';
  const details: Part[] = [
    { text: `${state.done + state.skipped}/${state.total} done${earlier}`, dispensable: 0 },
    ...(state.failed > 0 ? [{ text: `${state.failed} failed`, tone: 'red', dispensable: 1 } as const] : []),
    { text: `${formatClock((state.now - state.startedAt) / 1000)} elapsed`, tone: 'dim', dispensable: 3 },
    ...(left === undefined ? [] : [{ text: `${formatClock(left)} left`, tone: 'yellow', dispensable: 2 } as const]),
  ];
  return progressBarLine({ text: 'all trials', tone: 'bold', dispensable: 6 }, overallShare(state), details, terminal);
}

function sign(text: string, tone: NonNullable<Part['tone']>): Part {
  return { text, tone, dispensable: 0 };
}

function nameOf({ arm, task, seed, budget }: TrialLabel): string {
  return printable([arm, budget, task, 'seed', seed].filter((part) => part !== null).join(' '));
}

const FRAME_MS = 100;
const PLAIN_INTERVAL_MS = 10_000;

/** A display of a run's progress. */
export interface Progress {
  /** Shows an event. */
  emit(event: ProgressEvent): void;
  /** Leaves the last state on the screen and restores the cursor. */
  close(): void;
}

/** Opens a display of `total` trials on `stream`: live on a terminal, otherwise occasional lines. */
export function openProgress(total: number, stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY ? terminalDisplay(total, stream) : plainDisplay(total, stream);
}

/** Shows the progress of `total` trials while `work` runs, and warnings as notes among it. */
export async function withProgress<T>(total: number, work: (progress: Progress) => Promise<T>): Promise<T> {
  const progress = openProgress(total);
  const asBefore = showWarningsBy((line) => {
    progress.emit({ type: 'note', line });
  });
  try {
    return await work(progress);
  } finally {
    asBefore();
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
    close: once(() => {
      clearInterval(timer);
      draw();
      log.done();
    }),
  };
}

/** Writes one plain line per event, but at most one line for steps per `intervalMs`. */
export function plainDisplay(
  total: number,
  stream: Pick<NodeJS.WritableStream, 'write'>,
  { intervalMs = PLAIN_INTERVAL_MS, now = () => performance.now() }: { intervalMs?: number; now?: () => number } = {},
): Progress {
  const terminal: Terminal = { columns: Infinity, color: false };
  let state = initialProgress(total, now());
  let quietUntil = state.now + intervalMs;
  return {
    emit(event) {
      const label = trialOf(state, event)?.label;
      state = advance(state, event, now());
      const text = renderOutcome(event, label, terminal) ?? stepLine(event, state, quietUntil, terminal);
      if (text === undefined) return;
      if (event.type === 'step') quietUntil = state.now + intervalMs;
      stream.write(`${text}\n`);
    },
    close: once(() => {
      stream.write(`${renderProgress({ ...state, now: now(), running: new Map() }, terminal).join('\n')}\n`);
    }),
  };
}

function stepLine(
  event: ProgressEvent,
  state: ProgressState,
  quietUntil: number,
  terminal: Terminal,
): string | undefined {
  const trial = trialOf(state, event);
  const isDue = event.type === 'trial-start' || (event.type === 'step' && state.now >= quietUntil);
  return trial && isDue ? renderStep(trial, state, terminal) : undefined;
}

function once(action: () => void): () => void {
  let isOver = false;
  return () => {
    if (!isOver) action();
    isOver = true;
  };
}

/** Shows a warning to the user. */
type ShowWarning = (message: string) => void;

let show: ShowWarning = (message) => {
  process.stderr.write(`${commandName}: ${message}\n`);
};

/** Shows a warning in the current way: as its own line, or within the progress display. */
export function showWarning(message: string): void {
  show(printable(message));
}

/**
 * Changes how warnings are shown. Unlike a new handler of `onWarning`, which gets all warnings again, it does not
 * repeat earlier ones.
 * @returns a function that restores the previous way.
 */
function showWarningsBy(shown: ShowWarning): () => void {
  const before = show;
  show = shown;
  return () => {
    show = before;
  };
}
