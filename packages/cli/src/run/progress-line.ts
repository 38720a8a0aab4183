import { styleText } from 'node:util';
import stringWidth from 'string-width';
import { fitted, formatClock, formatMetric, formatShortCount, printable } from '../format.js';

/** The properties of the terminal that a display writes to. */
export interface Terminal {
  /** Width in characters. */
  readonly columns: number;
  /** Whether to use colours. */
  readonly color: boolean;
}

/** The style of a part of a line. */
type Tone = 'bold' | 'dim' | 'green' | 'red' | 'cyan' | 'yellow';

/** A part of a line. If a line is too long, the parts with the largest `dispensable` are dropped first. */
export interface Part {
  /** The text to show. */
  readonly text: string;
  /** Its style. Default plain. */
  readonly tone?: Tone;
  /** The order in which parts are dropped, largest first; 0 for parts that are never dropped. */
  readonly dispensable: number;
}

const GAP = '  ';
const BAR_WIDTHS = [24, 16, 8];

/**
 * A line with the widest progress bar that fits. If none fits, it has the narrowest bar and drops dispensable parts.
 */
export function progressBarLine(head: Part, share: number, details: readonly Part[], terminal: Terminal): string {
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

/** Joins the parts that fit, in order; cuts a line that is still too long. */
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

/** The details of a training run that a line shows after the name. */
export interface RunDetails {
  /** The stage of a run in stages, from 0, and the number of stages. */
  readonly stage?: { readonly stage: number; readonly stages: number } | undefined;
  /** The epoch, from 0; fractional. */
  readonly epoch: number;
  /** The number of epochs. */
  readonly epochs: number;
  /** The loss of the latest step. */
  readonly loss: number;
  /** The latest metric. */
  readonly metric?: { readonly name: string; readonly value: number } | undefined;
  /** The mean rank of the modules that have one. */
  readonly rank?: number | undefined;
  /** The number of parameters that would be stored now. */
  readonly storedParameters?: number | undefined;
  /** The estimated remaining time, in seconds. */
  readonly secondsLeft?: number | undefined;
}

/** The parts of a line that show a run's progress. */
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

/** Describes the terminal of a stream. `hasColors` respects NO_COLOR, FORCE_COLOR and the kind of terminal. */
export function terminalOf(stream: NodeJS.WriteStream): Terminal {
  return { columns: stream.columns || 80, color: stream.hasColors() };
}
