import { mean } from 'simple-statistics';
import { variancesOf, type Sample } from './resampling.js';
import { studentQuantile, studentTail } from './student.js';

/** The level of all tests: a pair counts as different if p is below it, as equivalent or no worse if at most that. */
export const LEVEL = 0.05;
/** A smaller standard error of a metric is a rounding error. */
const ROUNDING = 1e-9;

/** A mean with its standard error and degrees of freedom for Student's t. */
export interface MeanWithError {
  /** The mean. */
  readonly mean: number;
  /** Its standard error. */
  readonly standardError: number;
  /** The degrees of freedom. */
  readonly degrees: number;
}

/** A one-sided test that an arm is not worse than another by the margin or more. */
export interface NonInferiority {
  /** The p-value. */
  readonly p: number;
  /** The p-value, adjusted over the pairs. */
  readonly pHolm: number;
}

/** A test that two arms differ by less than a margin: two one-sided t tests on paired differences. */
export interface Equivalence {
  /** The margin, in units of the primary metric. */
  readonly margin: number;
  /** The larger p of the two one-sided tests. At most 5 % means equivalence within the margin. */
  readonly p: number;
  /** `p`, Holm-adjusted over the pairs. */
  readonly pHolm: number;
  /** The test that a is not worse than b by the margin or more, in the metric's direction. */
  readonly aNoWorse: NonInferiority;
  /** The test that b is not worse than a by the margin or more. */
  readonly bNoWorse: NonInferiority;
  /** The smallest margin at which the pair would be equivalent at 5 %, without Holm's correction. */
  readonly smallestMargin: number;
}

/**
 * The mean of the samples' means, with equal weight for each task. Its variance adds the variance over seeds and, if
 * known, over rows of each task; its degrees of freedom follow Welch and Satterthwaite, or are n - 1 for the seeds of a
 * single task. Null if it is unknown: if a sample has fewer than two seeds, or if there is no variance and the rows,
 * which would show whether that is a coincidence, are unknown.
 */
export function meanWithError(samples: readonly Sample[]): MeanWithError | null {
  const parts = samples.flatMap((sample) => {
    const { seeds, rows } = variancesOf(sample);
    return [
      { variance: seeds, degrees: sample.values.length - 1 },
      ...(rows === null ? [] : [{ variance: rows, degrees: sample.rows - 1 }]),
    ];
  });
  const known = parts.flatMap(({ variance, degrees }) =>
    variance === null ? [] : [{ variance: variance / samples.length ** 2, degrees }],
  );
  if (known.length < parts.length) return null;
  const error = pooledError(known);
  if (error.standardError < ROUNDING && samples.some(({ onRows }) => onRows === null)) return null;
  return { mean: mean(samples.map(({ values }) => mean([...values]))), ...error };
}

/** The standard error of a sum of independent parts, with degrees of freedom by Welch and Satterthwaite. */
export function pooledError(
  parts: readonly { readonly variance: number; readonly degrees: number }[],
): Pick<MeanWithError, 'standardError' | 'degrees'> {
  const variance = parts.reduce((sum, part) => sum + part.variance, 0);
  const squares = parts.reduce((sum, part) => sum + part.variance ** 2 / part.degrees, 0);
  return { standardError: Math.sqrt(variance), degrees: squares === 0 ? 1 : variance ** 2 / squares };
}

/**
 * Tests a mean paired difference, a minus b, against a margin by two one-sided tests (Schuirmann 1987). No `pHolm` is
 * adjusted yet: each equals its `p`.
 * @param lowerIsBetter whether a positive difference means that a is worse
 */
export function testEquivalence(difference: MeanWithError, margin: number, lowerIsBetter: boolean): Equivalence {
  const [above, below] = [tailBeyond(difference, -margin), 1 - tailBeyond(difference, margin)].map(unadjusted) as [
    NonInferiority,
    NonInferiority,
  ];
  return {
    ...{ margin, ...unadjusted(Math.max(above.p, below.p)) },
    ...(lowerIsBetter ? { aNoWorse: below, bNoWorse: above } : { aNoWorse: above, bNoWorse: below }),
    smallestMargin: smallestMargin(difference, LEVEL),
  };
}

function unadjusted(p: number): NonInferiority {
  return { p, pHolm: p };
}

/** The smallest margin at which a difference is equivalent at a level: the farther end of its 1 - 2 level interval. */
export function smallestMargin({ mean: difference, standardError, degrees }: MeanWithError, level: number): number {
  return Math.abs(difference) + (standardError === 0 ? 0 : studentQuantile(level, degrees) * standardError);
}

/** The p of the test that the true mean is above a bound. */
function tailBeyond({ mean: difference, standardError, degrees }: MeanWithError, bound: number): number {
  if (standardError === 0) return difference > bound ? 0 : 1;
  return studentTail((difference - bound) / standardError, degrees);
}
