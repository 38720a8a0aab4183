import { assertArgument, objectLike } from '@peftjs/core/model';
import { type DataSet, type TaskKind } from './data-set.js';
import { describeRows, numbersOf } from './describe.js';
import type { Metric, Task } from './task.js';

/** What always giving one answer scores. */
export interface MostFrequentScores {
  /** The answer: the most frequent class, label or tag of the training rows, or the mean of their numbers. */
  readonly answer: string | number;
  /** The scores, by metric. */
  readonly metrics: Readonly<Record<string, number>>;
}

const someTask = objectLike<Pick<Task, 'train' | 'dev' | 'metrics'>>('a task: await it', {
  train: 'object',
  dev: 'object',
  metrics: 'object',
});

/**
 * Returns what the most frequent answer of the training rows scores on the reported ones, which any model should beat:
 * of 95 rows `no` and 5 rows `yes`, always answering `no` has an accuracy of 0.95. Undefined for texts to embed, which
 * have no such answer.
 * @throws ConfigError for what is no task.
 */
export function mostFrequentScores(task: Pick<Task, 'train' | 'dev' | 'metrics'>): MostFrequentScores | undefined {
  assertArgument('task', task, someTask);
  const { train, dev, metrics } = task;
  const { kind, classes } = train;
  const { classes: counts, numbers } = describeRows(train);
  const answer = kind === 'regression' ? numbers?.mean : counts?.[0]?.name;
  if (answer === undefined) return undefined;
  const number = typeof answer === 'number' ? answer : classes.indexOf(answer);
  const actual = dev.rows.map((row) => scored(kind, classes, numbersOf(row)));
  const predicted = dev.rows.map((row) =>
    scored(kind, classes, kind === 'token-classification' ? numbersOf(row).map(() => number) : [number]),
  );
  const scores = Object.entries(metrics.metrics as Readonly<Record<string, Metric<unknown>>>);
  return { answer, metrics: Object.fromEntries(scores.map(([name, metric]) => [name, metric(predicted, actual)])) };
}

/** Labels in the form that metrics take: `PredictionsByKind`. */
function scored(kind: TaskKind, classes: DataSet['classes'], numbers: readonly number[]): unknown {
  if (kind === 'token-classification') return numbers.map((tag) => classes[tag]);
  return kind === 'multi-label' ? classes.map((_, label) => Number(numbers.includes(label))) : numbers[0];
}
