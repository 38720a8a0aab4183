import { parseOptions } from '@peftjs/core/method';
import type { EvaluationEvent, StepEvent } from '@peftjs/core/runtime';
import { createLogUpdate } from 'log-update';
import * as v from 'valibot';
import { printable } from '../format.js';
import { progressBarLine, detailsOf, line, terminalOf, type Part, type RunDetails } from './progress-line.js';

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
}

/** Milliseconds between updates on a terminal, and between lines elsewhere. */
const FRAME_MS = 100;
const PLAIN_INTERVAL_MS = 10_000;

/**
 * Makes callbacks for `train` that show its progress: epoch, loss, metric, mean rank, stored parameters and remaining
 * time. On a terminal they redraw one line; elsewhere they write a line for every evaluation, and one every ten
 * seconds. Make new ones for each run.
 * @throws ConfigError for an unknown option.
 */
export function trainingProgress(options: TrainingProgressOptions = {}): TrainingProgress {
  const { name, stream = process.stderr } = parseOptions('trainingProgress', optionEntries, options);
  const isLive = stream.isTTY && stream.rows > 0; // some terminals do not report their size
  const [show, intervalMs] = isLive ? [liveLine(stream), FRAME_MS] : [plainLines(stream), PLAIN_INTERVAL_MS];
  const head: Part = { text: printable(name), tone: 'bold', dispensable: 0 };
  let known: Pick<RunDetails, 'metric' | 'rank'> = {};
  let last: StepEvent | undefined;
  let first: { readonly step: number; readonly at: number } | undefined;
  let quietUntil = -Infinity;
  const update = (): void => {
    if (!last || !first) return;
    quietUntil = performance.now() + intervalMs;
    const { step, totalSteps } = last;
    const secondsLeft = secondsFor(totalSteps - step, step - first.step, quietUntil - intervalMs - first.at);
    show(head, last, detailsOf({ ...last, ...known, secondsLeft }));
  };
  return {
    onStep(event) {
      const now = performance.now();
      if (!first) {
        first = { step: event.step, at: now };
        if (!isLive) quietUntil = now + intervalMs;
      }
      last = event;
      if (event.ranks) known = { ...known, rank: meanRank(event.ranks) };
      if (now >= quietUntil || event.step === event.totalSteps) update();
    },
    onEvaluation({ metrics, primaryMetric, ranks }) {
      known = { metric: { name: primaryMetric, value: metrics[primaryMetric] ?? NaN }, rank: meanRank(ranks) };
      update();
    },
  };
}

const optionEntries = {
  name: v.optional(v.string(), 'training'),
  stream: v.optional(v.pipe(v.any(), v.check(isWritable, 'expected a stream to write to'))) as v.GenericSchema<
    NodeJS.WriteStream | undefined
  >,
};

function isWritable(value: unknown): boolean {
  return typeof (Object(value) as Partial<NodeJS.WriteStream>).write === 'function';
}

/**
 * Estimates the seconds for `steps` more steps from the pace so far. The first step, which includes compilation, does
 * not count.
 */
function secondsFor(steps: number, taken: number, milliseconds: number): number | undefined {
  return taken > 0 ? (steps * milliseconds) / taken / 1000 : undefined;
}

/** The mean rank of the modules; undefined if none has a rank. */
function meanRank(ranks: Readonly<Record<string, number>>): number | undefined {
  const all = Object.values(ranks);
  return all.length === 0 ? undefined : all.reduce((sum, rank) => sum + rank, 0) / all.length;
}

type Show = (head: Part, at: Pick<StepEvent, 'step' | 'totalSteps'>, details: readonly Part[]) => void;

/** Redraws one line. The cursor stays visible, so nothing needs restoring, however a run ends. */
function liveLine(stream: NodeJS.WriteStream): Show {
  const log = createLogUpdate(stream, { showCursor: true });
  return (head, { step, totalSteps }, details) => {
    log(progressBarLine(head, step / totalSteps, details, terminalOf(stream)));
  };
}

function plainLines(stream: Pick<NodeJS.WritableStream, 'write'>): Show {
  return (head, { step, totalSteps }, details) => {
    const steps: Part = { text: `step ${step}/${totalSteps}`, dispensable: 4 };
    stream.write(`${line([head, steps, ...details], { columns: Infinity, color: false })}\n`);
  };
}
