import {
  describeRows,
  isChatSet,
  mostFrequentScores,
  type DescribedRows,
  type MostFrequentScores,
  type RowsDescription,
} from '@peftjs/tasks';
import { counted, formatCount, formatMetric, listed, printable } from '../format.js';
import { isForLanguage, type LoadedTask } from '../registry/tasks.js';
import { splitRows } from '../run/prepare.js';
import type { TrialProtocol } from '../study/trials.js';

/** What `train` says of the rows, before and after it. */
export interface DataReport {
  /** Lines for before the first step. */
  readonly lines: readonly string[];
  /** What always giving the most frequent answer scores on the reported rows; undefined if there is no such answer. */
  readonly mostFrequent: MostFrequentScores | undefined;
}

/** Describes the rows that a task is trained, selected and reported on. */
export async function reportData(task: LoadedTask, protocol: TrialProtocol): Promise<DataReport> {
  if (isForLanguage(task)) {
    const { train, dev } = task;
    const found = describeRows(train, { reported: dev });
    const unit = isChatSet(train) ? ', in conversations' : '';
    const sizes = `data${unit}: ${formatCount(train.rows.length)} to train and select on, ${formatCount(dev.rows.length)} to report on`;
    return { lines: [sizes, ...descriptionLines(found)], mostFrequent: undefined };
  }
  const { train, selection, dev } = await splitRows(task, protocol);
  const all = (sets: readonly DescribedRows[]): DescribedRows =>
    ({ ...train, rows: sets.flatMap(({ rows }) => [...rows]) }) as DescribedRows;
  const found = task.heldOut
    ? describeRows(all([train, selection, dev])) // of one file, whose copies are on one side
    : describeRows(all([train, selection]), { reported: dev });
  const [learnt, selecting, reported] = [train, selection, dev].map(({ rows }) => formatCount(rows.length));
  return {
    lines: [
      `data: ${learnt} rows to train on, ${selecting} to select checkpoints on, ${reported} to report on`,
      ...descriptionLines(found),
    ],
    mostFrequent: mostFrequentScores({ train, dev, metrics: task.metrics }),
  };
}

/** The most classes that are listed with their counts, and the most rare ones that are named. */
const LISTED = 10;
/** A class of at most this many rows may be a mistake. */
const RARE = 2;

/** Lines on labels, repeated texts, and what may be a mistake in the file. */
export function descriptionLines(found: RowsDescription): string[] {
  const { rows, numbers, repeated, shared = 0 } = found;
  const lines = classLines(found);
  if (numbers) {
    const [least, mean, most] = [numbers.minimum, numbers.mean, numbers.maximum].map(formatMetric);
    lines.push(`labels: ${least} to ${most}, mean ${mean}`);
  }
  if (repeated > 0)
    lines.push(`repeated: ${formatCount(repeated)} of ${formatCount(rows)} rows have the texts of an earlier row`);
  if (shared > 0)
    lines.push(`leaked: ${counted(shared, 'reported row')} with texts of the other rows, which flatters the score`);
  return lines;
}

/** Lines on classes, labels or tags. */
function classLines({ kind, classes = [], unlabelled = 0, joinedLabels }: RowsDescription): string[] {
  if (classes.length === 0) return [];
  const [what, unit] = NAMES[kind] ?? ['classes', 'row'];
  const lines = [`${what}: ${first(classes.map(({ name, count }) => `${shown(name)} ${formatCount(count)}`))}`];
  if (unlabelled > 0) lines.push(`without any label: ${counted(unlabelled, 'row')}`);
  const rare = classes
    .filter(({ count }) => count <= RARE)
    .map(({ name, count }) => `${shown(name)}: ${counted(count, unit)}`);
  if (rare.length > 0) lines.push(`rare: ${first(rare)}; a typo, or a header in the middle of joined files?`);
  if (joinedLabels) {
    const { separator, labels } = joinedLabels;
    const split = `--label-separator "${separator}" gives ${formatCount(labels)} labels instead of ${formatCount(classes.length)} classes`;
    lines.push(`several labels in one cell? ${split}`);
  }
  return lines;
}

/** What classes are called, and what they are counted in. */
const NAMES: Readonly<Partial<Record<RowsDescription['kind'], readonly [what: string, unit: string]>>> = {
  'multi-label': ['labels', 'row'],
  'token-classification': ['tags, in words', 'word'],
};

/** Says how many rows a score rests on, and what always giving the most frequent answer would score. */
export function scoreLine(rows: number, mostFrequent: MostFrequentScores | undefined): string {
  const rests = `scored on ${counted(rows, 'row')}`;
  if (mostFrequent === undefined) return rests;
  const { answer, metrics } = mostFrequent;
  const always = typeof answer === 'number' ? `the mean, ${formatMetric(answer)}` : `"${shown(answer)}"`;
  const scores = Object.entries(metrics).filter(([name]) => !name.startsWith('f1.'));
  return `${rests}; always answering ${always} scores ${listed(scores.map(([name, value]) => `${name} ${formatMetric(value)}`))}`;
}

/** The most characters of a class that are shown: a class may be a text, if the wrong column is read. */
const SHOWN = 40;

function shown(name: string): string {
  return printable(name.length > SHOWN ? `${name.slice(0, SHOWN)}…` : name);
}

function first(items: readonly string[]): string {
  const more = items.length - LISTED;
  return more > 0 ? `${items.slice(0, LISTED).join(', ')}, and ${more} more` : items.join(', ');
}
