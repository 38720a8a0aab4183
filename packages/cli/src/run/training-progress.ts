import { styleText } from 'node:util';
import { parseOptions } from '@peftjs/core/method';
import type { EvaluationEvent, EvaluationProgress, StepEvent } from '@peftjs/core/runtime';
import { createLogUpdate } from 'log-update';
import stringWidth from 'string-width';
import * as v from 'valibot';
import { fitted, formatClock, formatCount, formatMetric, formatShortCount, printable } from '../format.js';
import type { TrialProgress } from './recorder.js';

/** The properties of the terminal that a display writes to. */
export interface Terminal {
  /** Width in characters. */
  readonly columns: number;
  /** Whether to use colours. */
  readonly color: boolean;
}

/** Describes the terminal of a stream. `hasColors` respects NO_COLOR, FORCE_COLOR and the kind of terminal. */
export function terminalOf(stream: NodeJS.WriteStream): Terminal {
  return { columns: stream.columns || 80, color: stream.hasColors() };
}

/** Lines for a file or a pipe: never cut, never coloured. */
export const PLAIN: Terminal = { columns: Infinity, color: false };

/** Milliseconds between updates on a terminal, and between lines for steps elsewhere. */
export const FRAME_MS = 100;
export const PLAIN_INTERVAL_MS = 10_000;

/** Whether lines can be redrawn on a stream; some terminals do not report their size. */
export function isLive({ isTTY, rows }: NodeJS.WriteStream): boolean {
  return isTTY && rows > 0;
}

/** The style of a part of a line. */
type Tone = 'bold' | 'dim' | 'green' | 'red' | 'cyan' | 'yellow';

/** A part of a line. If a line is too long, the parts with the largest `dispensable` are dropped first. */
export interface Part {
  /** The text to show. */
  readonly text: string;
  /** Its style; undefined for plain. */
  readonly tone: Tone | undefined;
  /** The order in which parts are dropped, largest first; 0 for parts that are never dropped. */
  readonly dispensable: number;
}

/** A part of a line, by default one that is never dropped. */
export function part(text: string, tone?: Tone, dispensable = 0): Part {
  return { text, tone, dispensable };
}

const GAP = '  ';
const BAR_WIDTHS = [24, 16, 8];

/**
 * A line with the widest progress bar that fits. If none fits, it has the narrowest bar and drops dispensable parts.
 */
export function progressBarLine(head: Part, share: number, details: readonly Part[], terminal: Terminal): string {
  const percent = part(`${Math.floor(100 * share)} %`.padStart(5), undefined, 5);
  const candidates = BAR_WIDTHS.map((width) => [head, bar(share, width), percent, ...details]);
  const fitting = candidates.find((parts) => widthOf(parts) <= terminal.columns);
  return line(fitting ?? (candidates.at(-1) as Part[]), terminal);
}

function bar(share: number, width: number): Part {
  const filled = Math.round(share * width);
  return part('━'.repeat(filled) + '┄'.repeat(width - filled), 'green', 4);
}

/** Joins the parts that fit, in order; cuts a line that is still too long. */
export function line(parts: readonly Part[], { columns, color }: Terminal): string {
  let kept = [...parts];
  while (widthOf(kept) > columns) {
    const least = kept.reduce((most, each) => (each.dispensable >= most.dispensable ? each : most));
    if (least.dispensable === 0) return fitted(kept.map(({ text }) => text).join(GAP), columns);
    kept = kept.filter((each) => each !== least);
  }
  return kept
    .map(({ text, tone }) => (color && tone ? styleText(tone, text, { validateStream: false }) : text))
    .join(GAP);
}

function widthOf(parts: readonly Part[]): number {
  return stringWidth(parts.map(({ text }) => text).join(GAP));
}

/** A step of a training, with the mean rank of the modules that have one. */
type Step = TrialProgress & { readonly rank?: number | undefined };

/** The steps of a training so far. Times are in milliseconds. */
export interface Steps {
  /** How long compiling the first step will take, in seconds, once that has begun. */
  readonly compileSeconds?: number;
  /** The first step reported. The time before it (loading, compiling) does not predict the rest. */
  readonly first?: { readonly step: number; readonly at: number };
  /** The last step reported, with the latest metric and rank: not every step has them. */
  readonly last?: Step;
  /** The first report of the evaluation in progress. */
  readonly evaluation?: { readonly rows: number; readonly at: number };
}

/** The steps after another one, or after a part of an evaluation, at the time `now`. */
export function stepped({ first, last, evaluation, ...rest }: Steps, step: Step, now: number): Steps {
  const [metric, rank] = [step.metric ?? last?.metric, step.rank ?? last?.rank];
  const { rows } = step.evaluating ?? {};
  const isNew = rows !== undefined && !(last?.evaluating && last.evaluating.rows < rows);
  const begun = isNew ? { rows, at: now } : evaluation;
  return {
    ...rest,
    first: first ?? { step: step.step, at: now },
    last: { ...step, ...(metric && { metric }), rank },
    ...(rows !== undefined && begun && { evaluation: begun }),
  };
}

/** The finished share of a training. */
export function shareOf({ last }: Steps): number {
  return last ? Math.min(1, last.step / Math.max(1, last.totalSteps)) : 0;
}

/** The finished share of what a training does now: its steps, or the rows of an evaluation. */
export function shareNow(steps: Steps): number {
  const { evaluating } = steps.last ?? {};
  return evaluating ? evaluating.rows / Math.max(1, evaluating.totalRows) : shareOf(steps);
}

/**
 * Estimates the remaining seconds of the evaluation in progress, else of the training, from the pace so far; undefined
 * until two reports are known.
 */
function secondsLeft({ first, last, evaluation }: Steps, now: number): number | undefined {
  if (last?.evaluating && evaluation) {
    const { rows, totalRows } = last.evaluating;
    return rows > evaluation.rows
      ? ((totalRows - rows) * (now - evaluation.at)) / (rows - evaluation.rows) / 1000
      : undefined;
  }
  if (!first || !last || last.step <= first.step) return undefined;
  const pace = (now - first.at) / (last.step - first.step);
  return Math.max(0, (last.totalSteps - last.step) * pace) / 1000;
}

/** The steps of a line without a bar. */
export function countOf({ last }: Steps): Part[] {
  return last ? [part(`step ${last.step} of ${last.totalSteps}`, undefined, 4)] : [];
}

/** The parts of a line that show the state of a training at the time `now`. */
export function detailsOf(steps: Steps, now: number): Part[] {
  if (!steps.last) return [part(beforeSteps(steps), 'dim', 1)];
  const { stage, epoch, epochs, loss, metric, rank, storedParameters, evaluating } = steps.last;
  const left = secondsLeft(steps, now);
  return [
    ...(stage ? [part(`stage ${stage.stage + 1}/${stage.stages}`, undefined, 5)] : []),
    ...(evaluating
      ? [part(`evaluating ${formatCount(evaluating.rows)} of ${formatCount(evaluating.totalRows)} rows`)]
      : []),
    part(`epoch ${Math.min(epochs, Math.floor(epoch) + 1)}/${epochs}`, undefined, 6),
    part(`loss ${formatMetric(loss)}`, undefined, 3),
    ...(metric ? [part(`${printable(metric.name)} ${formatMetric(metric.value)}`, 'cyan', 2)] : []),
    ...(rank === undefined ? [] : [part(`rank ${rank.toFixed(1)}`, undefined, 8)]),
    part(`${formatShortCount(storedParameters)} params`, undefined, 7),
    ...(left === undefined ? [] : [part(`${formatClock(left)} left`, 'dim', 1)]),
  ];
}

function beforeSteps({ compileSeconds }: Steps): string {
  if (compileSeconds === undefined) return 'preparing';
  return `compiling the training step, about ${Math.max(1, Math.round(compileSeconds))} s`;
}

/** The settings of a progress line. */
export interface TrainingProgressOptions {
  /** The start of the line. Default 'training'. */
  readonly name?: string;
  /** The stream to write to. Default `process.stderr`. */
  readonly stream?: NodeJS.WriteStream;
}

/** Callbacks to pass to `train`. */
export interface TrainingProgress {
  /** Shows a step. */
  readonly onStep: (event: StepEvent) => void;
  /** Shows an evaluation. */
  readonly onEvaluation: (event: EvaluationEvent) => void;
  /** Shows how far an evaluation is. Also an `onProgress` of `evaluate`. */
  readonly onEvaluating: (progress: EvaluationProgress) => void;
}

/**
 * Makes callbacks for `train` that show its progress on a terminal, in one line that they redraw: epoch, loss, metric,
 * mean rank, stored parameters and remaining time. Elsewhere they write nothing. Make new ones for each run.
 * @throws ConfigError for an unknown option.
 */
export function trainingProgress(options: TrainingProgressOptions = {}): TrainingProgress {
  const { name, stream = process.stderr } = parseOptions('trainingProgress', optionEntries, options);
  if (!isLive(stream)) return { onStep: nothing, onEvaluation: nothing, onEvaluating: nothing };
  const head = part(printable(name), 'bold');
  const log = createLogUpdate(stream, { showCursor: true }); // so nothing needs restoring, however a run ends
  let steps: Steps = {};
  let quietUntil = 0;
  const update = (now: number): void => {
    quietUntil = now + FRAME_MS;
    log(progressBarLine(head, shareNow(steps), detailsOf(steps, now), terminalOf(stream)));
  };
  const show = (step: Step, isLast: boolean): void => {
    const now = performance.now();
    steps = stepped(steps, step, now);
    if (now >= quietUntil || isLast) update(now);
  };
  return {
    onStep({ ranks, ...event }) {
      show({ ...event, rank: ranks && meanRank(ranks) }, event.step === event.totalSteps);
    },
    onEvaluating(evaluating) {
      if (steps.last) show({ ...steps.last, evaluating }, false);
    },
    onEvaluation({ metrics, primaryMetric, ranks }) {
      const { last } = steps;
      if (!last) return;
      const now = performance.now();
      const metric = { name: primaryMetric, value: metrics[primaryMetric] ?? NaN };
      const { evaluating: _, ...step } = last;
      steps = stepped(steps, { ...step, metric, rank: meanRank(ranks) }, now);
      update(now);
    },
  };
}

function nothing(): void {}

const optionEntries = {
  name: v.optional(v.string(), 'training'),
  stream: v.optional(
    v.pipe(
      v.any(),
      v.check((stream) => typeof (Object(stream) as Writable).write === 'function', 'expected a stream to write to'),
    ),
  ) as v.GenericSchema<NodeJS.WriteStream | undefined>,
};

type Writable = Partial<NodeJS.WriteStream>;

/** The mean rank of the modules; undefined if none has a rank. */
function meanRank(ranks: Readonly<Record<string, number>>): number | undefined {
  const all = Object.values(ranks);
  return all.length === 0 ? undefined : all.reduce((sum, rank) => sum + rank, 0) / all.length;
}
