import * as v from 'valibot';
import type { RowPredictions } from '@peftjs/core';
import { anyNumber } from './json.js';

/** The layout of the result files that this version writes. */
export const RESULT_FORMAT = 2;

// Files from outside are hostile: every list, text and depth is bounded.
const MAX_NAME = 1_000;
const MAX_ENTRIES = 20_000;
const MAX_DEPTH = 8;

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_NAME));
const finite = v.pipe(v.number(), v.finite());
/** What is measured on the way may be infinite, as a perplexity; what a trial is judged by is finite. */
const number = anyNumber;
const amount = v.pipe(finite, v.minValue(0));
const count = v.pipe(finite, v.integer(), v.minValue(0));
const date = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.check((text) => !Number.isNaN(Date.parse(text)), 'expected a date'),
);
/** The id is the file's name, too: nothing in it may leave the folder. */
const id = v.pipe(
  v.string(),
  v.maxLength(200),
  v.regex(/^[A-Za-z0-9][\w.-]*$/, 'an id of letters, digits, ".", "_", "-"'),
);
/** Stages that a sparsifying schedule has at most. */
export const MAX_STAGES = 100;
/** Rows a result file keeps at most. */
const HISTORY_ROWS = 400;
/** Rows whose predictions a result file keeps at most, and the values of lists among them. */
const MAX_PREDICTIONS = { rows: 20_000, values: 200_000 };
/** Longest message of a failed trial, in characters. */
export const MAX_MESSAGE = 10_000;
const message = v.pipe(v.string(), v.maxLength(MAX_MESSAGE));
const json = v.custom<JsonValue>((input) => isJson(input, MAX_DEPTH), `JSON of at most ${MAX_DEPTH} levels`);

/** Values by name, at most 20,000 of them. */
const named = <const S extends v.GenericSchema>(value: S) =>
  v.pipe(
    v.record(name, value),
    v.check((record) => Object.keys(record).length <= MAX_ENTRIES, `at most ${MAX_ENTRIES} entries`),
  );

/** Plain data as JSON holds it. */
type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

const budget = v.object({
  /** Parameters asked for; null where a method takes no budget. */
  requested: v.nullable(count),
  /** Which parameters are compared with it: stored in the end, or trained at the start. */
  matchedOn: v.picklist(['stored', 'trained']),
  /** As typed: `60000`, `0.8%`, `r=4`. */
  spec: v.pipe(v.string(), v.maxLength(MAX_NAME)),
  /** Largest relative distance from the request that counts as met. */
  tolerance: amount,
  met: v.boolean(),
});

const protocol = v.objectWithRest(
  {
    epochs: amount,
    batchSize: count,
    /** What checkpoints were selected on, in words. */
    selectedOn: name,
    /** How a trial in stages was trained. */
    stages: v.exactOptional(
      v.object({
        levels: v.pipe(v.array(amount), v.minLength(1), v.maxLength(MAX_STAGES)),
        stageEpochs: count,
        memorizationRows: count,
      }),
    ),
    data: v.object({
      source: name,
      licence: name,
      rows: named(count),
      /** Rows cut at `maxTokens`, and rows left out because nothing to learn was left; absent in older files. */
      truncated: v.exactOptional(named(count)),
      leftOut: v.exactOptional(named(count)),
    }),
  },
  json,
);

const historyRow = v.object({
  step: count,
  epoch: amount,
  /** Of the step, on the data alone. */
  loss: number,
  /** What was minimised: the loss and the method's own terms. */
  objective: v.optional(number),
  learningRate: amount,
  /** Stored parameters the adapter has at this step. */
  stored: count,
  /** Metrics on the selection split, where it was evaluated here. */
  metrics: v.optional(named(number)),
  ranks: v.optional(named(amount)),
});

const sparsityStage = v.object({
  stage: count,
  /** Of the method's sparsity. */
  level: amount,
  /** Gates that the schedule began with. */
  gates: count,
  /** Share of them that is zero or removed. */
  sparsity: v.pipe(amount, v.maxValue(1)),
  storedParameters: count,
  meanParameters: amount,
  ranks: named(amount),
  /** The primary metric on a fixed part of the training rows, on the selection split, and on the reported one. */
  trainMetric: number,
  selectionMetric: number,
  devMetric: number,
  /** `trainMetric` and `devMetric` in percent of those of the first stage; null where there is nothing to compare with. */
  memorization: v.nullable(number),
  generalization: v.nullable(number),
});

/** A stage of a trial that chose its size, as core's `train` tells of it. */
const sizingStage = v.object({
  stage: count,
  kind: v.picklist(['dense', 'control', 'descent', 'search', 'tuning']),
  /** Parameters that it might store; null for no limit. */
  budget: v.nullable(amount),
  storedParameters: count,
  meanParameters: amount,
  ranks: named(amount),
  /** The primary metric on the selection split, and on a fixed part of the training rows. */
  score: number,
  trainScore: v.nullable(number),
  /** How much worse than the dense adapter it scores on the selection split, and how much worse it may. */
  worse: number,
  allowed: number,
  /** Whether it may be chosen. */
  held: v.boolean(),
  /** `trainScore` and `score` in percent of those of the dense adapter; null where there is nothing to compare with. */
  memorization: v.nullable(number),
  generalization: v.nullable(number),
});

/** How an adapter chose its size, in result files and beside adapters. */
export const sizingSchema = v.pipe(
  v.object({
    stages: v.pipe(v.array(sizingStage), v.minLength(1), v.maxLength(MAX_STAGES)),
    chosen: count,
    reason: message,
  }),
  v.check(({ stages, chosen }) => chosen < stages.length, 'expected the number of a stage as the chosen one'),
);

/** What the numbers depend on: packages by name, and `NUMERICS` of core, which is 0 in files from before there was one. */
const versions = v.pipe(
  v.objectWithRest({ numerics: count }, v.union([name, count])),
  v.check((record) => Object.keys(record).length <= MAX_ENTRIES, `at most ${MAX_ENTRIES} entries`),
);

const trial = {
  format: v.literal(RESULT_FORMAT),
  id,
  /** The name in its study. */
  arm: name,
  method: name,
  methodConfig: named(json),
  model: name,
  task: name,
  seed: count,
  budget,
};

/** How the learning rate was chosen; null where it was given. */
const tuning = v.object({
  tried: v.pipe(
    v.array(
      v.object({
        learningRate: amount,
        /** The mean over tasks and seeds of the primary metric on the selection rows; null where a trial failed. */
        score: v.nullable(finite),
        /** Of the paired difference to the best rate; null for that one, and where it is unknown. */
        standardError: v.exactOptional(v.nullable(amount)),
        error: v.exactOptional(message),
      }),
    ),
    v.maxLength(100),
  ),
  /** The rates within one standard error of the best one, the middle of which is chosen. */
  tied: v.exactOptional(v.pipe(v.array(amount), v.maxLength(100))),
  chosen: v.nullable(amount),
});

const circumstances = {
  /** The rows that metrics are of; a trial that tunes is judged on those that select. */
  judgedOn: v.picklist(['dev', 'selection']),
  tuning: v.nullable(tuning),
  engine: v.object({ executor: name, backend: name, threads: count, dtype: name }),
  versions,
  learningRate: amount,
  protocol,
  startedAt: date,
  finishedAt: date,
};

/**
 * Of the selected checkpoint, head left out; `base` is the whole pretrained model. `storedMean` is what would be stored, averaged over
 * the steps; `optimizerBytes` are those of AdamW's two float32 moments of what the adapter trains at the start.
 */
const parameters = v.object({
  trainableAtStart: count,
  storedMean: amount,
  stored: count,
  base: count,
  optimizerBytes: count,
});

/** A class by its number, a value, or a list of 0 and 1 by label, of tags, or of documents by number. */
const shortText = v.pipe(v.string(), v.maxLength(MAX_NAME));
const listOf = <const S extends v.GenericSchema>(value: S, most: number) =>
  v.pipe(v.array(value), v.maxLength(most), v.readonly());
const rowValue = v.union([finite, shortText, listOf(v.union([finite, shortText]), MAX_PREDICTIONS.values)]);
const rowValues = listOf(rowValue, MAX_PREDICTIONS.rows);

const predictions = v.pipe(
  v.object({ predicted: rowValues, actual: rowValues }),
  v.check(
    ({ predicted, actual }) => predicted.length === actual.length,
    'expected as many predictions as rows have what is right',
  ),
);

const doneTrial = v.object({
  ...trial,
  parameters,
  ranks: named(amount),
  /** On the reported split, at the selected checkpoint. */
  metrics: named(finite),
  last: v.object({ metrics: named(finite), ranks: named(amount), parameters: count }),
  /** `lowerIsBetter`: less of the metric is better; left out where more is. */
  selection: v.object({ split: name, step: count, metric: name, lowerIsBetter: v.exactOptional(v.boolean()) }),
  history: v.pipe(v.array(historyRow), v.maxLength(HISTORY_ROWS)),
  time: v.object({ totalSeconds: amount, trainSeconds: amount, stepMedianMs: amount, compileSeconds: amount }),
  memory: v.object({ peakRssBytes: count }),
  /** Of a trial that was trained in stages: what each ended with. */
  stages: v.exactOptional(v.pipe(v.array(sparsityStage), v.maxLength(MAX_STAGES))),
  /** Of a trial that chose its size: what its stages ended with, the one that it ended as, and why. */
  sizing: v.exactOptional(sizingSchema),
  /** What was predicted for each of the rows that `metrics` are of; absent where rows are not judged one by one, or are too many. */
  rows: v.exactOptional(predictions),
  ...circumstances,
  status: v.literal('done'),
});

const failedTrial = v.object({
  ...trial,
  ...circumstances,
  status: v.literal('failed'),
  error: v.object({ code: name, message }),
});

/** The result file of one trial, DIR/results/<id>.json, as this version writes it; `migrated` brings older ones there. */
export const trialResultSchema = v.pipe(
  v.variant('status', [doneTrial, failedTrial]),
  v.check(
    (result) => result.status === 'failed' || result.selection.metric in result.metrics,
    'metrics must hold the metric named by selection.metric',
  ),
);

/** What a stage of a trial ended with. */
export type SparsityStage = v.InferOutput<typeof sparsityStage>;

/** How an adapter chose its size. */
export type TrialSizing = v.InferOutput<typeof sizingSchema>;

/** A trial that ran to its end. */
export type DoneTrial = v.InferOutput<typeof doneTrial>;

/** A trial that stopped, and why. */
export type FailedTrial = v.InferOutput<typeof failedTrial>;

/** What a trial left behind. Two runs of one plan are equal but for `time`, `memory` and the dates. */
export type TrialResult = DoneTrial | FailedTrial;

/** One line of the training curve. */
export type HistoryRow = v.InferOutput<typeof historyRow>;

/** Budgets, batches, splits and sources: what a reader must know to judge a number. */
export type Protocol = v.InferOutput<typeof protocol>;

/** Predictions as a result file can hold them; undefined for those that are too many, or no numbers. */
export function storablePredictions(rows: RowPredictions | undefined): DoneTrial['rows'] {
  if (rows === undefined) return undefined;
  const { predicted, actual } = rows;
  const values = [...predicted, ...actual].reduce((sum: number, row) => sum + (Array.isArray(row) ? row.length : 1), 0);
  if (values > MAX_PREDICTIONS.values) return undefined;
  const result = v.safeParse(predictions, { predicted, actual });
  return result.success ? result.output : undefined;
}

/** The metric that selected the checkpoint, on the reported split. */
export function primaryMetric(result: DoneTrial): number {
  return result.metrics[result.selection.metric] as number;
}

function isJson(value: unknown, depth: number): value is JsonValue {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value === 'number') return Number.isFinite(value);
  return typeof value === 'object' && depth > 0 && Object.values(value).every((inner) => isJson(inner, depth - 1));
}

/** Rows between evaluations that keep their ranks, which are as many numbers as there are modules. */
const RANK_ROWS = 40;

/**
 * At most `limit` rows of a training curve, in order: those with metrics first, then evenly spaced ones with ranks, then evenly
 * spaced ones of the others, whose ranks are left out.
 */
export function boundedHistory<Row extends { readonly metrics?: unknown; readonly ranks?: unknown }>(
  rows: readonly Row[],
  limit = HISTORY_ROWS,
): Row[] {
  const between = rows.filter((row) => row.metrics === undefined);
  const evaluated = evenly(
    rows.filter((row) => row.metrics !== undefined),
    limit,
  );
  const ranked = evenly(
    between.filter((row) => row.ranks !== undefined),
    Math.min(RANK_ROWS, limit - evaluated.length),
  );
  const whole = new Set([...evaluated, ...ranked]);
  const others = new Set(
    evenly(
      between.filter((row) => !whole.has(row)),
      limit - whole.size,
    ),
  );
  return rows.flatMap((row) => (whole.has(row) ? [row] : others.has(row) ? [withoutRanks(row)] : []));
}

function withoutRanks<Row extends { readonly ranks?: unknown }>(row: Row): Row {
  const { ranks: _, ...rest } = row;
  return rest as Row;
}

/** `amount` rows at even distances, the last one among them. */
function evenly<Row>(rows: readonly Row[], amount: number): readonly Row[] {
  if (rows.length <= amount) return rows;
  return rows.filter(
    (_, index) => Math.floor(((index + 1) * amount) / rows.length) > Math.floor((index * amount) / rows.length),
  );
}

/** The layout of a file; those from before there was a number are 1. */
export function formatOf(input: unknown): unknown {
  return isRecord(input) ? (input['format'] ?? 1) : undefined;
}

/**
 * A result file of an older layout in today's; anything else as it is, for the schema to judge.
 *
 * Format 1 had no `format` and no `versions.numerics`, and called the mean of the stored parameters `trainableMean`. Its first files had
 * neither `arm`, `judgedOn`, `tuning`, `budget.matchedOn` nor `parameters.optimizerBytes`.
 */
export function migrated(input: unknown): unknown {
  if (!isRecord(input) || formatOf(input) !== 1) return input;
  const { parameters, ...rest } = input;
  return {
    arm: input['method'],
    judgedOn: 'dev',
    tuning: null,
    ...rest,
    format: RESULT_FORMAT,
    budget: withDefaults({ matchedOn: 'stored' }, input['budget']),
    versions: withDefaults({ numerics: 0 }, input['versions']),
    ...(parameters !== undefined && { parameters: migratedParameters(parameters, input) }),
  };
}

/** Where nothing was requested, `trainableMean` was what is trained at the start: the mean is that of the training curve then. */
function migratedParameters(parameters: unknown, { budget, history }: Readonly<Record<string, unknown>>): unknown {
  if (!isRecord(parameters)) return parameters;
  const { trainableMean, ...rest } = parameters;
  const isMean = isRecord(budget) && budget['requested'] !== null;
  const storedMean = isMean ? trainableMean : (meanStored(history) ?? trainableMean);
  const optimizerBytes = 2 * 4 * Number(rest['trainableAtStart']);
  return { optimizerBytes, ...rest, storedMean };
}

function meanStored(history: unknown): number | undefined {
  if (!Array.isArray(history) || history.length === 0) return undefined;
  const stored = history.map((row: unknown) => (isRecord(row) ? Number(row['stored']) : NaN));
  return stored.reduce((sum, value) => sum + value, 0) / stored.length;
}

function withDefaults(defaults: Readonly<Record<string, unknown>>, record: unknown): unknown {
  return isRecord(record) ? { ...defaults, ...record } : record;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
