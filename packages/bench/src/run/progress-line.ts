import { styleText } from 'node:util';
import stringWidth from 'string-width';
import { fitted, formatClock, formatMetric, formatShortCount, printable } from '../report/format.js';

/** How a display may write. */
export interface Terminal {
  readonly columns: number;
  readonly color: boolean;
}

type Tone = 'bold' | 'dim' | 'green' | 'red' | 'cyan' | 'yellow';

/** A part of a line; of the parts that do not fit the one of the largest number goes first. */
export interface Part {
  readonly text: string;
  readonly tone?: Tone;
  readonly dispensable: number;
}

const GAP = '  ';
const BAR_WIDTHS = [24, 16, 8];

/** A line with the widest bar for which all of it fits; with the shortest, and without what can be spared, where none does. */
export function barredLine(head: Part, share: number, details: readonly Part[], terminal: Terminal): string {
  const percent: Part = { text: `${Math.floor(100 * share)} %`.padStart(5), dispensable: 5 };
  const candidates = BAR_WIDTHS.map((width) => [head, bar(share, width), percent, ...details]);
  return line(
    candidates.find((parts) => widthOf(parts) <= terminal.columns) ?? [head, bar(share, 8), percent, ...details],
    terminal,
  );
}

function bar(share: number, width: number): Part {
  const filled = Math.round(share * width);
  return { text: '━'.repeat(filled) + '┄'.repeat(width - filled), tone: 'green', dispensable: 4 };
}

/** The parts that fit, in their order; a line that is still too long is cut. */
export function line(parts: readonly Part[], { columns, color }: Terminal): string {
  let kept = [...parts];
  while (widthOf(kept) > columns) {
    const least = kept.reduce((most, part) => (part.dispensable >= most.dispensable ? part : most));
    if (least.dispensable === 0) return fitted(kept.map(({ text }) => text).join(GAP), columns);
    kept = kept.filter((part) => part !== least);
  }
  return kept
    .map(({ text, tone }) => (color && tone ? styleText(tone, text, { validateStream: false }) : text))
    .join(GAP);
}

function widthOf(parts: readonly Part[]): number {
  return stringWidth(parts.map(({ text }) => text).join(GAP));
}

/** What a line says of a training run, after its name. */
export interface RunDetails {
  /** Of a run in stages: which one, from 0, and how many there are. */
  readonly stage?: { readonly stage: number; readonly stages: number } | undefined;
  /** From 0. */
  readonly epoch: number;
  readonly epochs: number;
  readonly loss: number;
  /** The latest one. */
  readonly metric?: { readonly name: string; readonly value: number } | undefined;
  /** The mean over the modules that have one. */
  readonly rank?: number | undefined;
  readonly storedParameters?: number | undefined;
  readonly secondsLeft?: number | undefined;
}

/** The parts of a line that say how a run is. */
export function detailsOf(run: RunDetails): Part[] {
  const { stage, epoch, epochs, loss, metric, rank, storedParameters, secondsLeft } = run;
  const parts: (Part | undefined)[] = [
    stage && { text: `stage ${stage.stage + 1}/${stage.stages}`, dispensable: 5 },
    { text: `epoch ${Math.min(epochs, Math.floor(epoch) + 1)}/${epochs}`, dispensable: 6 },
    { text: `loss ${formatMetric(loss)}`, dispensable: 3 },
    metric && { text: `${printable(metric.name)} ${formatMetric(metric.value)}`, tone: 'cyan', dispensable: 2 },
    rank === undefined ? undefined : { text: `rank ${rank.toFixed(1)}`, dispensable: 8 },
    storedParameters === undefined
      ? undefined
      : { text: `${formatShortCount(storedParameters)} params`, dispensable: 7 },
    secondsLeft === undefined ? undefined : { text: `${formatClock(secondsLeft)} left`, tone: 'dim', dispensable: 1 },
  ];
  return parts.filter((part) => part !== undefined);
}

/** `hasColors` knows NO_COLOR, FORCE_COLOR and the kind of terminal. */
export function terminalOf(stream: NodeJS.WriteStream): Terminal {
  return { columns: stream.columns || 80, color: stream.hasColors() };
}
