import { grouped, parseOptions } from '@peftjs/core/method';
import { assertArgument, objectLike, type DataKind } from '@peftjs/core/model';
import * as v from 'valibot';
import { type DataSet, type RowsByKind, type TaskKind, textsKey } from './data-set.js';
import { joinedLabels, type JoinedLabels } from './joined-labels.js';
import { isPreferenceSet, type LanguageSet } from './language.js';

/** Rows to describe: a data set, or rows for a language model. */
export type DescribedRows = Pick<DataSet, 'name' | 'kind' | 'classes' | 'rows'> | Pick<LanguageSet, 'name' | 'rows'>;

const someRows = objectLike<DescribedRows>('a data set or a language set: await it', { name: 'string', rows: 'list' });

/** How often a class occurs. */
export interface ClassCount {
  /** The name of the class, label or tag. */
  readonly name: string;
  /** The number of rows that have it; of tags, the number of words. */
  readonly count: number;
}

/** What rows hold. */
export interface RowsDescription {
  /** The name of the set. */
  readonly name: string;
  /** The kind of its rows. */
  readonly kind: DataKind;
  /** The number of rows. */
  readonly rows: number;
  /** The number of rows whose texts an earlier row has, too. */
  readonly repeated: number;
  /** The number of reported rows whose texts these rows have, too; undefined if no reported rows were given. */
  readonly shared?: number;
  /** The classes, labels or tags that occur, the most frequent first; undefined for kinds without them. */
  readonly classes?: readonly ClassCount[];
  /** The number of rows without any label, for rows with any number of them. */
  readonly unlabelled?: number;
  /** The range and mean of the labels or scores, if they are numbers. */
  readonly numbers?: Readonly<Record<'minimum' | 'mean' | 'maximum', number>>;
  /** The labels that classes such as `food|staff` seem to join; undefined if there are none. */
  readonly joinedLabels?: JoinedLabels;
}

/**
 * Describes rows before they are trained on: their classes or range, repeated texts, classes that seem to be several
 * labels in one cell, and, with `reported`, how many of those rows have texts that these rows have, too. It computes
 * nothing on a model and prints nothing.
 * @throws ConfigError for what is no set of rows, or an unknown option.
 */
export function describeRows(
  set: DescribedRows,
  options: { readonly reported?: DescribedRows | undefined } = {},
): RowsDescription {
  assertArgument('set', set, someRows);
  parseOptions('describeRows', { reported: v.optional(someRows) }, options);
  const { reported } = options;
  const keys = new Set(set.rows.map(keyOf));
  return {
    name: set.name,
    kind: 'kind' in set ? set.kind : isPreferenceSet(set) ? 'preferences' : 'causal-lm',
    rows: set.rows.length,
    repeated: set.rows.length - keys.size,
    ...(reported && { shared: reported.rows.filter((row) => keys.has(keyOf(row))).length }),
    ...('kind' in set && labelsOf(set)),
  };
}

/** A key for the texts of a row. */
function keyOf(row: DescribedRows['rows'][number]): string {
  const isLabelled = 'words' in row || 'texts' in row || 'label' in row || 'labels' in row;
  return isLabelled ? textsKey(row) : JSON.stringify(row);
}

type Labels = Omit<RowsDescription, 'name' | 'kind' | 'rows' | 'repeated' | 'shared'>;

function labelsOf({ kind, classes, rows }: Extract<DescribedRows, { readonly kind: TaskKind }>): Labels {
  if (kind === 'regression' || kind === 'scored-pairs') return { numbers: rangeOf(rows.flatMap(numbersOf)) };
  if (kind === 'pairs' || kind === 'triplets') return {};
  const counts = countsOf(rows.flatMap(numbersOf), classes);
  if (kind !== 'classification') {
    const unlabelled = rows.filter((row) => 'labels' in row && row.labels.length === 0).length;
    return { classes: counts, ...(unlabelled > 0 && { unlabelled }) };
  }
  const joined = joinedLabels(counts.map(({ name }) => name));
  return { classes: counts, ...(joined && { joinedLabels: joined }) };
}

/** The numbers of a row's label, labels, tags or score. */
export function numbersOf(row: RowsByKind[TaskKind]): readonly number[] {
  if ('label' in row) return [row.label];
  if ('labels' in row) return row.labels;
  if ('tags' in row) return row.tags;
  return 'score' in row ? [row.score] : [];
}

function countsOf(numbers: readonly number[], classes: readonly string[]): ClassCount[] {
  return [...grouped(numbers, (number) => number)]
    .sort(([a, left], [b, right]) => right.length - left.length || a - b)
    .map(([number, { length }]) => ({ name: classes[number] ?? String(number), count: length }));
}

function rangeOf(numbers: readonly number[]): NonNullable<RowsDescription['numbers']> {
  const sums = { minimum: Infinity, maximum: -Infinity, mean: 0 };
  for (const number of numbers) {
    sums.minimum = Math.min(sums.minimum, number);
    sums.maximum = Math.max(sums.maximum, number);
    sums.mean += number / numbers.length;
  }
  return sums;
}
