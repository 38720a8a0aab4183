import { parseOptions } from '@peftjs/core/method';
import type { EvaluationEvent, StepEvent } from '@peftjs/core/runtime';
import { createLogUpdate } from 'log-update';
import * as v from 'valibot';
import { printable } from '../format.js';
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
  shareOf,
  stepped,
  terminalOf,
  type Part,
  type Steps,
} from './progress-line.js';

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

/**
 * Makes callbacks for `train` that show its progress: epoch, loss, metric, mean rank, stored parameters and remaining
 * time. On a terminal they redraw one line; elsewhere they write a line for every evaluation, and one every ten
 * seconds. Make new ones for each run.
 * @throws ConfigError for an unknown option.
 */
export function trainingProgress(options: TrainingProgressOptions = {}): TrainingProgress {
  const { name, stream = process.stderr } = parseOptions('trainingProgress', optionEntries, options);
  const live = isLive(stream);
  const show = (live ? liveLine : plainLines)(part(printable(name), 'bold'), stream);
  const intervalMs = live ? FRAME_MS : PLAIN_INTERVAL_MS;
  let steps: Steps = {};
  let quietUntil: number | undefined;
  const update = (now: number): void => {
    quietUntil = now + intervalMs;
    show(steps, now);
  };
  return {
    onStep({ ranks, ...event }) {
      const now = performance.now();
      steps = stepped(steps, { ...event, rank: ranks && meanRank(ranks) }, now);
      quietUntil ??= live ? now : now + intervalMs;
      if (now >= quietUntil || event.step === event.totalSteps) update(now);
    },
    onEvaluation({ metrics, primaryMetric, ranks }) {
      const { last } = steps;
      if (!last) return;
      const now = performance.now();
      const metric = { name: primaryMetric, value: metrics[primaryMetric] ?? NaN };
      steps = stepped(steps, { ...last, metric, rank: meanRank(ranks) }, now);
      update(now);
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

/** The mean rank of the modules; undefined if none has a rank. */
function meanRank(ranks: Readonly<Record<string, number>>): number | undefined {
  const all = Object.values(ranks);
  return all.length === 0 ? undefined : all.reduce((sum, rank) => sum + rank, 0) / all.length;
}

type Show = (steps: Steps, now: number) => void;

/** Redraws one line. The cursor stays visible, so nothing needs restoring, however a run ends. */
function liveLine(head: Part, stream: NodeJS.WriteStream): Show {
  const log = createLogUpdate(stream, { showCursor: true });
  return (steps, now) => {
    log(progressBarLine(head, shareOf(steps), detailsOf(steps, now), terminalOf(stream)));
  };
}

function plainLines(head: Part, stream: Pick<NodeJS.WritableStream, 'write'>): Show {
  return (steps, now) => {
    stream.write(`${line([head, ...countOf(steps), ...detailsOf(steps, now)], PLAIN)}\n`);
  };
}
