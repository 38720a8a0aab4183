import { createRng } from '@peftjs/core/method';
import { weightedMetric } from '@peftjs/tasks';
import { mean, sampleStandardDeviation, sampleVariance } from 'simple-statistics';
import { primaryMetric, type DoneTrial } from '@peftjs/cli/results';
import { bootstrapInterval, ROW_RESAMPLES, type Estimate } from './estimates.js';

/** The primary metric of some trials, or its paired differences, by seed. */
export interface Sample {
  /** One value per seed. */
  readonly values: readonly number[];
  /** The values of each seed on every resample of the rows; null if the result files lack the rows. */
  readonly onRows: readonly Float64Array[] | null;
  /** The number of evaluated rows; 0 if unknown. */
  readonly rows: number;
}

/** A sample of values whose rows are unknown. */
export function ofValues(values: readonly number[]): Sample {
  return { values, onRows: null, rows: 0 };
}

/** The primary metric of trials on the same rows. */
export function scoresOf(trials: readonly DoneTrial[]): Sample {
  return sampleOf(
    trials.map(primaryMetric),
    trials.map((trial) => judgedRows(trial)),
    (rows) => rows.scores,
  );
}

/** The primary metric of `a` minus that of `b`, for each seed that both have. */
export function differencesOf(a: readonly DoneTrial[], b: readonly DoneTrial[]): Sample {
  const pairs = a.flatMap((trial) => {
    const twin = b.find(({ seed }) => seed === trial.seed);
    return twin ? [[trial, twin] as const] : [];
  });
  const rowsOfTwins = pairs.map(([, twin]) => judgedRows(twin));
  const differences = pairs.map(([trial, twin]) => primaryMetric(trial) - primaryMetric(twin));
  const rowsOfPairs = pairs.map(([trial], index) => {
    const [ours, theirs] = [judgedRows(trial), rowsOfTwins[index]];
    return ours && theirs && ours.actual === theirs.actual ? ours : undefined;
  });
  return sampleOf(differences, rowsOfPairs, ({ scores }, index) => {
    const theirs = rowsOfTwins[index] as JudgedRows;
    return scores.map((score, resample) => score - (theirs.scores[resample] as number));
  });
}

/**
 * The standard error of the mean paired difference of the primary metric, `a` minus `b`, over the seeds that both have
 * and over the evaluated rows: the root of the sum of both variances. The variance over rows comes from resampling
 * them, the same rows for all seeds and both arms; it is left out if the result files do not hold the same rows. The
 * variance over seeds is left out for one seed. NaN if neither is known.
 */
export function pairedStandardError(a: readonly DoneTrial[], b: readonly DoneTrial[]): number {
  const { seeds, rows } = variancesOf(differencesOf(a, b));
  return seeds === null && rows === null ? NaN : Math.sqrt((seeds ?? 0) + (rows ?? 0));
}

/**
 * The mean of the samples' means, of one or several tasks with equal weight. The 95 % interval covers other seeds and,
 * for tasks whose rows are known, other rows: a percentile bootstrap draws both independently (Owen, Annals of Applied
 * Statistics 2007).
 */
export function estimateOf(samples: readonly Sample[]): Estimate {
  const byTask = samples.map(({ values }) => [...values]);
  const isSpread = byTask.every(({ length }) => length > 1);
  const onRows = samples.map((sample) => sample.onRows);
  return {
    mean: mean(byTask.map(mean)),
    sd: isSpread && byTask.length === 1 ? sampleStandardDeviation(byTask.flat()) : null,
    interval: isSpread ? bootstrapInterval(byTask, onRows) : null,
  };
}

/** The variance of a sample's mean over other seeds, and over other rows; null if unknown. */
export function variancesOf({ values, onRows }: Sample): { seeds: number | null; rows: number | null } {
  return {
    seeds: values.length < 2 ? null : sampleVariance([...values]) / values.length,
    rows: onRows && sampleVariance(Array.from({ length: ROW_RESAMPLES }, (_, resample) => meanOn(onRows, resample))),
  };
}

function meanOn(onRows: readonly Float64Array[], resample: number): number {
  return onRows.reduce((sum, scores) => sum + (scores[resample] as number), 0) / onRows.length;
}

/** A sample with its rows, if every value has the same rows. */
function sampleOf(
  values: readonly number[],
  judged: readonly (JudgedRows | undefined)[],
  scored: (rows: JudgedRows, index: number) => Float64Array,
): Sample {
  const known = judged.filter((rows) => rows !== undefined);
  const [first] = known;
  const isShared = first && known.length === values.length && known.every(({ actual }) => actual === first.actual);
  return isShared ? { values, onRows: known.map(scored), rows: first.rows } : ofValues(values);
}

/** The evaluated rows of a trial. */
interface JudgedRows {
  /** The number of rows. */
  readonly rows: number;
  /** The true values of the rows as text: equal if two trials were evaluated on the same rows. */
  readonly actual: string;
  /** The primary metric on each resample. */
  readonly scores: Float64Array;
}

const judgedRowsOf = new WeakMap<DoneTrial, JudgedRows | null>();

/** The rows of a trial, resampled once; undefined if its file has none, or not those behind its metric. */
function judgedRows(trial: DoneTrial): JudgedRows | undefined {
  const known = judgedRowsOf.get(trial);
  if (known !== undefined) return known ?? undefined;
  const found = resampled(trial);
  judgedRowsOf.set(trial, found ?? null);
  return found;
}

function resampled(trial: DoneTrial): JudgedRows | undefined {
  const { task, selection, rows } = trial;
  const metric = rows && weightedMetric(selection.metric, rows);
  if (!metric) return undefined;
  const count = rows.actual.length;
  const whole = metric(new Uint8Array(count).fill(1));
  if (Math.abs(whole - primaryMetric(trial)) > 1e-6) return undefined;
  const weights = weightsOf(task, count);
  const scores = Float64Array.from({ length: ROW_RESAMPLES }, (_, resample) =>
    metric(weights.subarray(resample * count, (resample + 1) * count)),
  );
  return { rows: count, actual: JSON.stringify(rows.actual), scores };
}

let drawn = { key: '', weights: new Uint8Array() };

/**
 * How often each resample draws each row, [ROW_RESAMPLES x rows]. Kept for one task at a time, since trials come task
 * by task.
 */
function weightsOf(task: string, rows: number): Uint8Array {
  const key = `${rows} rows of ${task}`;
  if (drawn.key === key) return drawn.weights;
  const rng = createRng(0).fork(key);
  const weights = new Uint8Array(ROW_RESAMPLES * rows);
  for (let start = 0; start < weights.length; start += rows) {
    for (let draw = 0; draw < rows; draw++) {
      const at = start + rng.integer(rows);
      weights[at] = (weights[at] as number) + 1;
    }
  }
  drawn = { key, weights };
  return weights;
}
