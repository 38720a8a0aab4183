import { describe, expect, it } from 'vitest';
import { ShapeError } from '../errors.js';
import {
  foldDiagonal,
  joinFactors,
  kaimingUniform,
  loraDelta,
  nonZeroIndices,
  normalValues,
  pickColumns,
  pickRows,
  placeRows,
  rowNorms,
  scaleColumns,
  scaleRows,
} from './factors.js';
import { createRng } from '../rng.js';
import { hostTensor } from '../tensors.js';

const matrix = (rows: readonly (readonly number[])[]) =>
  hostTensor(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);

describe('factors', () => {
  const loraA = matrix([
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
  const loraB = matrix([
    [1, 0, 2, 1],
    [0, 1, 1, 3],
  ]);

  it('multiplies to dW [in, out]', () => {
    expect([...loraDelta({ loraA, loraB, scaling: 0.5 })]).toEqual([0.5, 1, 2, 3.5, 1.5, 2, 5, 7.5, 2.5, 3, 8, 11.5]);
    expect([...loraDelta({ loraA: matrix([[]]), loraB: hostTensor(new Float32Array(), [0, 2]), scaling: 1 })]).toEqual([
      0, 0,
    ]);
    expect(() => loraDelta({ loraA, loraB: loraA, scaling: 1 })).toThrow(ShapeError);
  });

  it('sums in double precision', () => {
    const a = matrix([[1e8, 1, -1e8]]);
    const b = matrix([[1], [1], [1]]);
    expect([...loraDelta({ loraA: a, loraB: b, scaling: 1 })]).toEqual([1]);
  });

  it('folds a diagonal and drops its zeros', () => {
    const folded = foldDiagonal({ loraA, loraB, scaling: 0.5 }, hostTensor(Float32Array.of(-0, -2), [2]));
    expect([...folded.loraA.data]).toEqual([2, 4, 6]);
    expect([...folded.loraB.data]).toEqual([-0, -2, -2, -6]);
    expect(folded.scaling).toBe(0.5);
    expect(folded.loraB.shape).toEqual([1, 4]);
  });

  it('joins the ranks of two changes, each with its own scaling', () => {
    const other = { loraA: pickColumns(loraA, [1]), loraB: pickRows(loraB, [0]), scaling: -3 };
    const joined = joinFactors({ loraA, loraB, scaling: 0.5 }, other);
    expect(joined.loraA.shape).toEqual([3, 3]);
    expect(joined.loraB.shape).toEqual([3, 4]);
    expect(joined.scaling).toBe(0.5);
    const second = loraDelta(other);
    const sum = loraDelta({ loraA, loraB, scaling: 0.5 }).map((value, index) => value + (second[index] as number));
    expect(loraDelta(joined)).toEqual(sum);
    expect(() => joinFactors(other, { ...other, loraB: matrix([[1, 2]]) })).toThrow(ShapeError);
  });

  it('scales rows and columns', () => {
    expect([...scaleRows(loraB, [2, -1]).data]).toEqual([2, 0, 4, 2, -0, -1, -1, -3]);
    expect([...scaleColumns(loraA, [10, 0]).data]).toEqual([10, 0, 30, 0, 50, 0]);
  });

  it('picks, places and measures', () => {
    expect(nonZeroIndices(hostTensor(Float32Array.of(0, 3, -0, -1), [4]))).toEqual([1, 3]);
    expect([...pickColumns(loraA, [1]).data]).toEqual([2, 4, 6]);
    expect([...pickRows(loraB, [1]).data]).toEqual([0, 1, 1, 3]);
    expect([...placeRows(pickRows(loraB, [1]), [1], 2).data]).toEqual([0, 0, 0, 0, 0, 1, 1, 3]);
    expect(
      rowNorms(
        matrix([
          [3, 4],
          [0, 0],
        ]),
      ),
    ).toEqual([5, 0]);
  });

  it('draws A within 1 / sqrt(in), whatever the rank', () => {
    const drawn = kaimingUniform(createRng(1), 100, 3).data;
    expect(Math.max(...drawn)).toBeLessThanOrEqual(0.1);
    expect(Math.max(...drawn)).toBeGreaterThan(0.09);
    expect(Math.min(...drawn)).toBeLessThan(-0.09);
  });

  it('draws normal values of the given standard deviation', () => {
    const drawn = [...normalValues(createRng(1), [4000], 0.02).data];
    const std = Math.sqrt(drawn.reduce((sum, value) => sum + value * value, 0) / drawn.length);
    expect(std).toBeGreaterThan(0.019);
    expect(std).toBeLessThan(0.021);
  });
});
