import { expectedCalibrationError, metricsFor } from '@peftjs/tasks';
import { expect, it } from 'vitest';

/** The logits of a row whose classes have these probabilities. */
const of = (...probabilities: number[]): Float32Array => Float32Array.from(probabilities, Math.log);
const sure = Float32Array.of(40, 0);

it.each<[string, readonly Float32Array[], readonly number[], number]>([
  ['certain and right', [sure, sure], [0, 0], 0],
  ['certain, and right in half of the rows', [sure, sure], [0, 1], 0.5],
  ['as sure as right', [of(0.75, 0.25), of(0.75, 0.25), of(0.25, 0.75), of(0.75, 0.25)], [0, 0, 1, 1], 0],
  // (|1 - 0.9 - 0.9| + |1 - 0.7|) / 3: the two rows at 0.9 share a bin
  ['in two bins', [of(0.9, 0.1), of(0.9, 0.1), of(0.7, 0.3)], [0, 1, 0], 1.1 / 3],
  // 14 / 15 = 0.933..: 0.93 and 0.94 are in different bins, 0.91 and 0.93 in one, where too much and too little cancel
  ['on both sides of a limit between bins', [of(0.93, 0.07), of(0.94, 0.06)], [0, 1], (0.07 + 0.94) / 2],
  ['within one bin', [of(0.91, 0.09), of(0.93, 0.07)], [0, 1], 0.84 / 2],
  ['of three equal classes, the first of which is predicted', [1, 1, 1].map(() => of(1, 1, 1)), [0, 1, 2], 0],
  ['without rows', [], [], 0],
  ['of a row with a logit that is not a number', [sure, Float32Array.of(NaN, 1)], [0, 1], NaN],
])('the expected calibration error %s', (_, logits, actual, error) => {
  if (Number.isNaN(error)) expect(expectedCalibrationError(logits, actual)).toBeNaN();
  else expect(expectedCalibrationError(logits, actual)).toBeCloseTo(error, 7);
});

it('the expected calibration error is a metric of classes only, and selects nothing', () => {
  expect(metricsFor('classification').ofOutputs).toEqual({ expectedCalibrationError });
  for (const kind of ['regression', 'multi-label', 'scored-pairs', 'pairs'] as const) {
    expect(metricsFor(kind).ofOutputs).toBeUndefined();
  }
});
