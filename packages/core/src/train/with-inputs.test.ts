import { describe, expect, it } from 'vitest';
import type { Batch, TrainingData } from '../contracts/model.js';
import { ConfigError, DataError } from '../errors.js';
import { hostFilled, hostIntegers, hostTensor } from '../tensors.js';
import { withInputs } from './with-inputs.js';

/** A batch of three places, of which the last only fills it where there are two rows. */
function batchOf(...rows: number[]): Batch {
  return {
    inputs: { inputIds: hostIntegers(Int32Array.of(1, 2, 3, 4, 5, 6), [3, 2]) },
    labels: hostIntegers(Int32Array.of(0, 1, 0), [3]),
    rowWeights: hostTensor(Float32Array.of(1, 1, Number(rows.length === 3)), [3]),
    rows,
  };
}

const data: TrainingData = {
  kind: 'classification',
  batchesPerEpoch: 1,
  epoch: (index) => [index === 0 ? batchOf(2, 0, 1) : batchOf(3, 1)],
  holdOut: () => ({ rest: data, heldOut: [batchOf(1, 3, 0)] }),
};
const values = { teacher: hostTensor(Float32Array.of(0, 1, 10, 11, 20, 21, 30, 31), [4, 2]) };

describe('more inputs of training data', () => {
  it('are gathered by the numbers of the rows, with zeros where a row only fills the batch', () => {
    const more = withInputs(data, values);
    const teacherOf = (batch?: Batch) => batch?.inputs['teacher'];
    expect(teacherOf(more.epoch(0)[0])).toEqual(hostTensor(Float32Array.of(20, 21, 0, 1, 10, 11), [3, 2]));
    expect(teacherOf(more.epoch(1)[0])).toEqual(hostTensor(Float32Array.of(30, 31, 10, 11, 0, 0), [3, 2]));
    expect(more.epoch(0)[0]).toMatchObject({ ...batchOf(2, 0, 1), axes: { teacher: ['batch', 2] } });
    const { heldOut = [], rest } = more.holdOut?.(1) ?? {};
    expect(teacherOf(heldOut[0])?.data).toEqual(Float32Array.of(10, 11, 30, 31, 0, 1));
    expect(teacherOf(rest?.epoch(0)[0])?.shape).toEqual([3, 2]);
  });

  it('may be arrays, one for each row', () => {
    const rows = [0, 1, 2, 3].map((row) => Float32Array.of(10 * row, 10 * row + 1));
    expect(withInputs(data, { teacher: rows }).epoch(0)).toEqual(withInputs(data, values).epoch(0));
    expect(() => withInputs(data, { teacher: [Float32Array.of(1, 2), Float32Array.of(3)] })).toThrow(
      "'teacher' has 2 numbers for row 0 and 1 for row 1: expected the same length for every row",
    );
  });

  it('may be integers', () => {
    const more = withInputs(data, { kind: hostIntegers(Int32Array.of(5, 6, 7, 8), [4]) });
    expect(more.epoch(0)[0]?.inputs['kind']).toEqual(hostIntegers(Int32Array.of(7, 5, 6), [3]));
  });

  it('are refused for rows without a value, and under a name that is taken', () => {
    const few = withInputs(data, { teacher: hostFilled([2, 2], 1) });
    expect(() => few.epoch(0)).toThrow(DataError);
    expect(() => few.epoch(0)).toThrow("'teacher' has values of 2 rows; the data have a row 2");
    expect(() => withInputs(data, { inputIds: hostFilled([4, 2], 1) }).epoch(0)).toThrow(ConfigError);
  });
});
