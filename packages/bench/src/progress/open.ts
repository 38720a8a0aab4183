import { createLogUpdate } from 'log-update';
import { renderOutcome, renderProgress, renderStep, type Terminal } from './render.js';
import { advance, initialProgress, trialOf, type ProgressEvent, type ProgressState } from './state.js';

const FRAME_MS = 100;
const PLAIN_INTERVAL_MS = 10_000;

/** Shows how a plan is getting on. */
export interface Progress {
  emit(event: ProgressEvent): void;
  /** Leaves the last state on the screen and gives the cursor back. */
  close(): void;
}

/** A display of `total` trials on `stream`: live on a terminal, otherwise a line now and then. */
export function openProgress(total: number, stream: NodeJS.WriteStream = process.stderr): Progress {
  return stream.isTTY ? terminalDisplay(total, stream) : plainDisplay(total, stream);
}

/** Redraws one line per running trial and one for the plan; what has ended stays above as lines. */
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

/** One line per event, in plain words; at most one line about steps in `intervalMs`. */
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

/** `hasColors` knows NO_COLOR, FORCE_COLOR and the kind of terminal. */
function terminalOf(stream: NodeJS.WriteStream): Terminal {
  return { columns: stream.columns || 80, color: stream.hasColors() };
}
