import { ConfigError, createRng, DataError } from '@peftjs/core';
import { type DataSet, type Row, selectRows } from './data-set.js';
import { drawRows, splitOff } from './sampling.js';

/**
 * `count` rows drawn by a seed, each class in proportion, in the order of the data set; the data set itself if it has no more.
 * @throws ConfigError when `count` is no positive integer.
 */
export async function sliceRows(dataSet: DataSet, count: number, seed: number): Promise<DataSet> {
  if (!Number.isInteger(count) || count < 1) {
    throw new ConfigError(`expected the number of rows to be a positive integer, got ${count}`, 'count');
  }
  if (count >= dataSet.rows.length) return dataSet;
  const stratumOf = stratumByLabel(dataSet);
  const units = dataSet.rows.map((_, row) => ({ stratum: stratumOf(row), rows: [row] }));
  return selectRows(dataSet, drawRows(units, count, createRng(seed).fork('slice')), dataSet.name);
}

/** A training set cut in two. */
export interface SelectionSplit {
  /** The rows to train on. */
  readonly train: DataSet;
  /** The rows that select a checkpoint. */
  readonly selection: DataSet;
}

/**
 * Sets a share of a training set aside to select checkpoints on: seeded, each class in proportion, rows with the same texts
 * on the same side.
 * @throws ConfigError for a share outside (0, 1), DataError when one side would be empty, or one class be left to train on.
 */
export async function splitSelection(
  dataSet: DataSet,
  { share = 0.1, seed }: { readonly share?: number | undefined; readonly seed: number },
): Promise<SelectionSplit> {
  if (!(share > 0 && share < 1)) {
    throw new ConfigError(`expected the share to lie between 0 and 1, got ${share}`, 'share');
  }
  const count = Math.max(1, Math.round(share * dataSet.rows.length));
  const rng = createRng(seed).fork('selection');
  const { drawn, rest } = splitOff(dataSet.rows, count, { stratumOf: stratumByLabel(dataSet), rng });
  if (drawn.length === 0 || rest.length === 0) {
    const came = `${dataSet.rows.length} rows, too few or too alike`;
    throw new DataError(`${dataSet.name}: expected rows to set a share of ${share} aside, got ${came}`, dataSet.name);
  }
  assertClasses(dataSet, rest);
  return {
    train: await selectRows(dataSet, rest, `${dataSet.name}/train`),
    selection: await selectRows(dataSet, drawn, `${dataSet.name}/selection`),
  };
}

/** @throws DataError when rows of several classes leave only one of them to train on. */
function assertClasses({ name, kind, classes, rows }: DataSet, training: readonly number[]): void {
  if (kind !== 'classification') return;
  const [left, ...others] = new Set(training.map((row) => (rows[row] as Row).label));
  if (left === undefined || others.length > 0) return;
  const lost = classes.filter((_, label) => label !== left && rows.some((row) => row.label === label));
  if (lost.length === 0) return;
  const gone = lost.map((label) => `every row of ${JSON.stringify(label)}`).join(', ');
  throw new DataError(
    `${name}: expected two classes to train on, got only ${JSON.stringify(classes[left])}: of ${rows.length} rows, selection takes ${gone}; add rows`,
    name,
  );
}

/** Classes are strata; numbers are not. */
function stratumByLabel({ kind, rows }: DataSet): (row: number) => number {
  return kind === 'classification' ? (row) => (rows[row] as Row).label : () => 0;
}
