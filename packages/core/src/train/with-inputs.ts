import { assertArgument } from '../config.js';
import type { Batch, TrainingData } from '../contracts/model.js';
import { ConfigError, DataError } from '../errors.js';
import { namedTensors, someTrainingData } from '../kinds.js';
import { hostRows, mapValues, sizeOf, type HostTensor, type HostTensors } from '../tensors.js';

/** The values of an input by row: a tensor `[rows, ..]`, or an array of the same length for each row. */
export type RowValues = HostTensor | readonly Float32Array[];

/**
 * Returns training data whose batches have more inputs, for a loss to read: `inputs.<name>` `[batch, ..]`, gathered by
 * the rows' numbers. Rows that only fill a batch get zeros.
 * @param given a tensor for each name, `[rows, ..]`, or an array for each row, as `predict` returns them: entry n
 * belongs to row n of the data
 * @throws ConfigError for a name that the batches already have, DataError for a row without a value; both when the
 * batches are made. DataError for arrays of different lengths.
 */
export function withInputs(data: TrainingData, given: Readonly<Record<string, RowValues>>): TrainingData {
  assertArgument('data', data, someTrainingData);
  assertArgument('given', given, namedTensors);
  const values = mapValues(given, (of, name) => ('shape' in of ? of : stacked(of, name)));
  const add = (batch: Batch): Batch => withRows(batch, values);
  return inEpochs(data, (own) => ({ epoch: (index) => own.epoch(index).map(add) }), add);
}

/**
 * Returns the same data with other epochs. What remains after `holdOut` gets such epochs, too.
 * @param changeHeldOut changes the batches that are held out. Default: as they are
 */
export function inEpochs(
  data: TrainingData,
  epochsOf: (data: TrainingData) => Pick<TrainingData, 'epoch'> & Partial<Pick<TrainingData, 'batchesPerEpoch'>>,
  changeHeldOut: (batch: Batch) => Batch = (batch) => batch,
): TrainingData {
  const { kind, batchesPerEpoch, isChat } = data;
  const holdOut = data.holdOut?.bind(data);
  return {
    kind,
    ...(isChat && { isChat }),
    batchesPerEpoch,
    ...epochsOf(data),
    ...(holdOut && {
      holdOut(rows) {
        const { rest, heldOut } = holdOut(rows);
        return { rest: inEpochs(rest, epochsOf, changeHeldOut), heldOut: heldOut.map(changeHeldOut) };
      },
    }),
  };
}

/** Stacks an array for each row. @throws DataError if their lengths differ. */
function stacked(rows: readonly Float32Array[], name: string): HostTensor {
  const width = rows[0]?.length ?? 0;
  const odd = rows.findIndex(({ length }) => length !== width);
  if (odd < 0) return hostRows(rows);
  throw new DataError(
    `'${name}' has ${width} numbers for row 0 and ${rows[odd]?.length} for row ${odd}: expected the same length for every row`,
    name,
  );
}

/** Returns training data with each batch changed. Rows can no longer be held out. */
export function withBatches(data: TrainingData, change: (batch: Batch) => Batch): TrainingData {
  const { kind, batchesPerEpoch } = data;
  return { kind, batchesPerEpoch, epoch: (index) => data.epoch(index).map(change) };
}

/** Adds the values of its rows to a batch. */
export function withRows(batch: Batch, values: HostTensors): Batch {
  const taken = Object.keys(values).find((name) => name in batch.inputs);
  if (taken !== undefined) throw new ConfigError(`the batches already have an input '${taken}'`, taken);
  const gathered = mapValues(values, (value, name) => gatheredRows(value, name, batch));
  return {
    ...batch,
    inputs: { ...batch.inputs, ...gathered },
    // Another axis may happen to be as long as a row has tokens.
    axes: { ...batch.axes, ...mapValues(gathered, ({ shape }) => ['batch', ...shape.slice(1)]) },
  };
}

/** Gathers rows by their numbers: `[rows, ..]` -> `[batch, ..]`. */
function gatheredRows({ dtype, shape, data }: HostTensor, name: string, { rows, rowWeights }: Batch): HostTensor {
  const [count = 0, ...rest] = shape;
  const size = sizeOf(rest);
  const out = new (dtype === 'int32' ? Int32Array : Float32Array)((rowWeights.shape[0] as number) * size);
  rows.forEach((row, place) => {
    if (row >= count) throw new DataError(`'${name}' has values of ${count} rows; the data have a row ${row}`, name);
    out.set(data.subarray(row * size, (row + 1) * size), place * size);
  });
  return { dtype, shape: [rowWeights.shape[0] as number, ...rest], data: out };
}
