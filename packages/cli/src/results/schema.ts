import * as v from 'valibot';
import type { RowPredictions } from '@peftjs/core/model';
import { anyNumber, findNonJson, MAX_DEPTH } from './json.js';

/** The format of the result files that this version writes. */
export const RESULT_FORMAT = 2;

// Files from elsewhere may be hostile: every array, string and depth is bounded.
const MAX_NAME = 1_000;
const MAX_ENTRIES = 20_000;

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_NAME));
const finite = v.pipe(v.number(), v.finite());
/** A number measured during training may be infinite, e.g. a perplexity; final metrics must be finite. */
const number = anyNumber;
const amount = v.pipe(finite, v.minValue(0));
const count = v.pipe(finite, v.integer(), v.minValue(0));
const date = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.check((text) => !Number.isNaN(Date.parse(text)), 'expected a date'),
);
/** The id is also the file name, so it must not leave the folder. */
const id = v.pipe(
  v.string(),
  v.maxLength(200),
  v.regex(/^[A-Za-z0-9][\w.-]*$/, 'an id of letters, digits, ".", "_", "-"'),
);
/** The most stages of a sparsifying schedule. */
export const MAX_STAGES = 100;
/** The most rows of a training curve in a result file. */
const HISTORY_ROWS = 400;
/** The most rows whose predictions a result file keeps, and the most values of lists in them. */
const MAX_PREDICTIONS = { rows: 20_000, values: 200_000 };
/** The longest message of a failed trial, in characters. */
export const MAX_MESSAGE = 10_000;
const message = v.pipe(v.string(), v.maxLength(MAX_MESSAGE));
const json = v.custom<JsonValue>((input) => findNonJson(input) === undefined, `JSON of at most ${MAX_DEPTH} levels`);

/** The schema of values by name, at most 20,000 of them. */
const named = <const S extends v.GenericSchema>(value: S) =>
  v.pipe(
    v.record(name, value),
    v.check((record) => Object.keys(record).length <= MAX_ENTRIES, `at most ${MAX_ENTRIES} entries`),
  );

/** Data that JSON can hold. */
type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

const budget = v.object({
  /** The requested number of parameters; null for a method without budget. */
  requested: v.nullable(count),
  /** The parameters that the budget counts: stored at the end, or trained at the start. */
  matchedOn: v.picklist(['stored', 'trained']),
  /** The budget as typed: `60000`, `0.8%`, `r=4`. */
  spec: v.pipe(v.string(), v.maxLength(MAX_NAME)),
  /** The largest relative distance from the request that counts as met. */
  tolerance: amount,
  /** Whether the budget was met. */
  met: v.boolean(),
});

const protocol = v.objectWithRest(
  {
    /** Epochs of training; of the first stage, for a trial in stages. */
    epochs: amount,
    /** Rows per batch. */
    batchSize: count,
    /** The rows and checkpoints of the selection, in words. */
    selectedOn: name,
    /** The stages of a trial in stages. */
    stages: v.exactOptional(
      v.object({
        levels: v.pipe(v.array(amount), v.minLength(1), v.maxLength(MAX_STAGES)),
        stageEpochs: count,
        memorizationRows: count,
      }),
    ),
    /** The origin and the rows of the data. */
    data: v.object({
      source: name,
      licence: name,
      rows: named(count),
      /** Rows cut at `maxTokens`, by set. Absent in older files. */
      truncated: v.exactOptional(named(count)),
      /** Rows left out because nothing to learn remained, by set. Absent in older files. */
      leftOut: v.exactOptional(named(count)),
    }),
  },
  json,
);

const historyRow = v.object({
  /** The step, from 1. */
  step: count,
  /** Epochs done, as a fraction. */
  epoch: amount,
  /** The loss of the step, without the method's own terms. */
  loss: number,
  /** The minimised objective: the loss plus the method's own terms. */
  objective: v.optional(number),
  /** The learning rate of the step. */
  learningRate: amount,
  /** The parameters that would be stored at this step. */
  stored: count,
  /** Metrics on the selection split, if it was evaluated at this step. */
  metrics: v.optional(named(number)),
  /** Ranks by module path, if recorded at this step. */
  ranks: v.optional(named(amount)),
});

/** What every stage of a trial records, whatever chose its stages. */
const stage = {
  /** The stage, from 0. */
  stage: count,
  /** Stored parameters at the end of the stage. */
  storedParameters: count,
  /** Stored parameters, averaged over the stage's steps. */
  meanParameters: amount,
  /** Ranks by module path. */
  ranks: named(amount),
  /** The score on a fixed sample of the training rows, in percent of the first stage's; null if undefined. */
  memorization: v.nullable(number),
  /** The score on rows that are not trained on, likewise. */
  generalization: v.nullable(number),
};

/** A stage at a level of sparsity. */
const sparsityStage = v.object({
  ...stage,
  /** The level of the method's sparsity. */
  level: amount,
  /** The number of gates at the start of the schedule. */
  gates: count,
  /** The share of these gates that is zero or removed. */
  sparsity: v.pipe(amount, v.maxValue(1)),
  /** The primary metric on a fixed sample of the training rows. */
  trainMetric: number,
  /** The primary metric on the selection split. */
  selectionMetric: number,
  /** The primary metric on the reported split. */
  devMetric: number,
});

/** A stage of a trial that chose its size, as reported by core's `train`. */
const sizingStage = v.object({
  ...stage,
  /** The purpose of the stage. */
  kind: v.picklist(['dense', 'control', 'descent', 'search', 'tuning']),
  /** The most parameters that it may store; null for no limit. */
  budget: v.nullable(amount),
  /** The primary metric on the selection split. */
  score: number,
  /** The primary metric on a fixed sample of the training rows. */
  trainScore: v.nullable(number),
  /** How much worse than the dense adapter it scores on the selection split. */
  worse: number,
  /** How much worse it may score. */
  allowed: number,
  /** Whether it may be chosen. */
  held: v.boolean(),
});

/** The choice of an adapter's size, in result files and next to adapters. */
export const sizingSchema = v.pipe(
  v.object({
    /** The stages of the choice. */
    stages: v.pipe(v.array(sizingStage), v.minLength(1), v.maxLength(MAX_STAGES)),
    /** The index of the chosen stage. */
    chosen: count,
    /** The reason for the choice, in words. */
    reason: message,
  }),
  v.check(({ stages, chosen }) => chosen < stages.length, "expected 'chosen' to be the index of a stage"),
);

/** The versions that numbers depend on: packages by name, and `NUMERICS` of core, which is 0 for files without it. */
const versions = v.pipe(
  v.objectWithRest({ numerics: count }, v.union([name, count])),
  v.check((record) => Object.keys(record).length <= MAX_ENTRIES, `at most ${MAX_ENTRIES} entries`),
);

const trial = {
  format: v.literal(RESULT_FORMAT),
  id,
  /** The arm's name in its study. */
  arm: name,
  method: name,
  methodConfig: named(json),
  model: name,
  task: name,
  seed: count,
  budget,
};

/** How the learning rate was tuned; null if it was given. */
const tuning = v.object({
  tried: v.pipe(
    v.array(
      v.object({
        learningRate: amount,
        /** The primary metric on the selection rows, averaged over tasks and seeds; null if a trial failed. */
        score: v.nullable(finite),
        /** The standard error of the paired difference from the best rate; null for the best rate, or if unknown. */
        standardError: v.exactOptional(v.nullable(amount)),
        error: v.exactOptional(message),
      }),
    ),
    v.maxLength(100),
  ),
  /** The rates within one standard error of the best one; the middle one is chosen. */
  tied: v.exactOptional(v.pipe(v.array(amount), v.maxLength(100))),
  /** The chosen rate; null if every rate failed, or if the process of a trial died. */
  chosen: v.nullable(amount),
});

const circumstances = {
  /** The rows that the metrics are computed on: the selection rows for tuning trials, the reported rows otherwise. */
  judgedOn: v.picklist(['dev', 'selection']),
  tuning: v.nullable(tuning),
  engine: v.object({ executor: name, backend: name, threads: count, dtype: name }),
  versions,
  /** A hash of the content of the model and of the task's rows. Absent in older files. */
  content: v.exactOptional(name),
  learningRate: amount,
  /** The rates of the arm's groups of parameters, such as SoRA's gates, where the study sets them. */
  learningRates: v.exactOptional(v.record(name, amount)),
  protocol,
  startedAt: date,
  finishedAt: date,
};

/**
 * Parameter counts of the selected checkpoint, without the head; `base` counts the whole pretrained model. `storedMean`
 * averages what would be stored over the steps. `optimizerBytes` is the size of AdamW's two float32 moments for
 * everything that the adapter trains at the start.
 */
const parameters = v.object({
  trainableAtStart: count,
  storedMean: amount,
  stored: count,
  base: count,
  optimizerBytes: count,
});

const shortText = v.pipe(v.string(), v.maxLength(MAX_NAME));
const listOf = <const S extends v.GenericSchema>(value: S, most: number) =>
  v.pipe(v.array(value), v.maxLength(most), v.readonly());
/** A row's value: a class index, a number, or a list (0 or 1 by label, tags, or document indices). */
const rowValue = v.union([finite, shortText, listOf(v.union([finite, shortText]), MAX_PREDICTIONS.values)]);
const rowValues = listOf(rowValue, MAX_PREDICTIONS.rows);

const predictions = v.pipe(
  v.object({ predicted: rowValues, actual: rowValues }),
  v.check(
    ({ predicted, actual }) => predicted.length === actual.length,
    'expected as many predictions as actual values',
  ),
);

const doneTrial = v.object({
  ...trial,
  parameters,
  ranks: named(amount),
  /**
   * The factor of the change at the start, LoRA's alpha / r, averaged over modules. Absent for methods without one, and
   * in older files.
   */
  scale: v.exactOptional(finite),
  /** Metrics on the reported split, at the selected checkpoint. */
  metrics: named(finite),
  /** The last checkpoint. */
  last: v.object({ metrics: named(finite), ranks: named(amount), parameters: count }),
  /** How the checkpoint was selected. `lowerIsBetter` is absent if higher values of the metric are better. */
  selection: v.object({ split: name, step: count, metric: name, lowerIsBetter: v.exactOptional(v.boolean()) }),
  history: v.pipe(v.array(historyRow), v.maxLength(HISTORY_ROWS)),
  time: v.object({ totalSeconds: amount, trainSeconds: amount, stepMedianMs: amount, compileSeconds: amount }),
  memory: v.object({ peakRssBytes: count }),
  /** The results of the stages of a trial in stages. */
  stages: v.exactOptional(v.pipe(v.array(sparsityStage), v.maxLength(MAX_STAGES))),
  /** The stages of a trial that chose its size, the chosen one, and why. */
  sizing: v.exactOptional(sizingSchema),
  /**
   * The prediction for each row that `metrics` covers. Absent if the metric is not computed by row, or if there are too
   * many rows.
   */
  rows: v.exactOptional(predictions),
  ...circumstances,
  /** The processor that computed it, with the features that its kernels depend on. Absent in older files. */
  processor: v.exactOptional(name),
  status: v.literal('done'),
});

const failedTrial = v.object({
  ...trial,
  ...circumstances,
  status: v.literal('failed'),
  error: v.object({ code: name, message }),
});

/**
 * The schema of a trial's result file, DIR/results/<id>.json, as this version writes it; `migrated` converts older
 * files.
 */
export const trialResultSchema = v.pipe(
  v.variant('status', [doneTrial, failedTrial]),
  v.check(
    (result) => result.status === 'failed' || result.selection.metric in result.metrics,
    'metrics must hold the metric named by selection.metric',
  ),
);

/** The result of a stage of a trial. */
export type SparsityStage = v.InferOutput<typeof sparsityStage>;

/** How an adapter chose its size. */
export type TrialSizing = v.InferOutput<typeof sizingSchema>;

/** The result of a trial that finished. */
export type DoneTrial = v.InferOutput<typeof doneTrial>;

/** The result of a trial that failed. */
export type FailedTrial = v.InferOutput<typeof failedTrial>;

/** The result of a trial. Two runs of one plan on processors of one kind differ only in `time`, `memory` and dates. */
export type TrialResult = DoneTrial | FailedTrial;

/** The rates that were tried for an arm, and the one chosen. */
export type TrialTuning = v.InferOutput<typeof tuning>;

/** One row of the training curve. */
export type HistoryRow = v.InferOutput<typeof historyRow>;

/** What a reader must know to judge a number: epochs, batches, splits and the origin of the data. */
export type Protocol = v.InferOutput<typeof protocol>;

/**
 * Returns predictions if a result file can hold them; undefined if there are too many, or if they are not finite
 * numbers.
 */
export function storablePredictions(rows: RowPredictions | undefined): DoneTrial['rows'] {
  if (rows === undefined) return undefined;
  const { predicted, actual } = rows;
  const values = [...predicted, ...actual].reduce((sum: number, row) => sum + (Array.isArray(row) ? row.length : 1), 0);
  if (values > MAX_PREDICTIONS.values) return undefined;
  const result = v.safeParse(predictions, { predicted, actual });
  return result.success ? result.output : undefined;
}

/** With fewer evaluated rows than this, a single one moves a score by .02 or more. */
export const FEW_ROWS = 50;

/** Sizes within this factor count as equal, by the default tolerance of a budget. */
export const SAME_SIZE = 1.02;

/** The metric that selected the checkpoint, on the reported split. */
export function primaryMetric(result: DoneTrial): number {
  return result.metrics[result.selection.metric] as number;
}

/** Rows between evaluations that keep their ranks: one number per module each. */
const RANK_ROWS = 40;

/**
 * Thins a training curve to at most `limit` rows, in order: first those with metrics, then evenly spaced ones with
 * ranks, then evenly spaced ones without their ranks.
 */
export function boundedHistory<Row extends { readonly metrics?: unknown; readonly ranks?: unknown }>(
  rows: readonly Row[],
  limit = HISTORY_ROWS,
): Row[] {
  const whole = new Set<Row>();
  const keep = (candidates: readonly Row[], most: number): void => {
    for (const row of evenly(candidates, Math.min(most, limit - whole.size))) whole.add(row);
  };
  const between = rows.filter((row) => row.metrics === undefined);
  const evaluated = rows.filter((row) => row.metrics !== undefined);
  keep(evaluated, limit);
  const ranked = between.filter((row) => row.ranks !== undefined);
  keep(ranked, RANK_ROWS);
  const rest = between.filter((row) => !whole.has(row));
  const others = new Set(evenly(rest, limit - whole.size));
  return rows.flatMap((row) => {
    const { ranks: _, ...bare } = row;
    return whole.has(row) ? [row] : others.has(row) ? [bare as Row] : [];
  });
}

/** Picks `amount` rows at even distances, including the last one. */
function evenly<Row>(rows: readonly Row[], amount: number): readonly Row[] {
  if (rows.length <= amount) return rows;
  return rows.filter(
    (_, index) => Math.floor(((index + 1) * amount) / rows.length) > Math.floor((index * amount) / rows.length),
  );
}
