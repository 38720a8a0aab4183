import { mean } from 'simple-statistics';
import { variancesOf, type Sample } from './resampling.js';
import { studentQuantile, studentTail } from './student.js';

/** The level of both one-sided tests, and so of equivalence. */
export const LEVEL = 0.05;

/** A mean with its standard error, by Student's t. */
export interface MeanWithError {
  readonly mean: number;
  readonly standardError: number;
  readonly degrees: number;
}

/** A one-sided test that a method is not worse than another one by the margin or more. */
export interface NonInferiority {
  readonly p: number;
  /** Adjusted over the pairs. */
  readonly pHolm: number;
}

/** Whether two arms differ by less than a margin, by two one-sided t tests on paired differences. */
export interface Equivalence {
  readonly margin: number;
  /** The larger p of both one-sided tests: at most 5 %, and the arms are equivalent within the margin. */
  readonly p: number;
  /** `p` by Holm's method over the pairs. */
  readonly pHolm: number;
  /** That a is not worse than b by the margin or more, whichever direction of the metric is better. */
  readonly aNoWorse: NonInferiority;
  readonly bNoWorse: NonInferiority;
  /** The margin at which the pair would just be called equivalent at 5 %, without Holm's correction. */
  readonly smallestMargin: number;
}

/** An equivalence before Holm's correction. */
export interface UnadjustedEquivalence extends Omit<Equivalence, 'pHolm' | 'aNoWorse' | 'bNoWorse'> {
  readonly aNoWorse: number;
  readonly bNoWorse: number;
}

/**
 * The mean of the means of samples, each task's counting alike. Its variance is the sum of those of seeds and, where they are known, rows
 * of each task; its degrees of freedom are Welch's and Satterthwaite's of these parts, n - 1 of one task's seeds alone. Null where a
 * sample has fewer than two seeds.
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
  return { mean: mean(samples.map(({ values }) => mean([...values]))), ...pooledError(known) };
}

/** The standard error of a sum of independent parts, and its degrees of freedom by Welch and Satterthwaite. */
export function pooledError(
  parts: readonly { readonly variance: number; readonly degrees: number }[],
): Pick<MeanWithError, 'standardError' | 'degrees'> {
  const variance = parts.reduce((sum, part) => sum + part.variance, 0);
  const squares = parts.reduce((sum, part) => sum + part.variance ** 2 / part.degrees, 0);
  return { standardError: Math.sqrt(variance), degrees: squares === 0 ? 1 : variance ** 2 / squares };
}

/**
 * Two one-sided tests (Schuirmann 1987) of a mean paired difference, a minus b, against a margin.
 * @param lowerIsBetter whether a positive difference says that a is the worse one
 */
export function testEquivalence(
  difference: MeanWithError,
  margin: number,
  lowerIsBetter: boolean,
): UnadjustedEquivalence {
  const [above, below] = [tailBeyond(difference, -margin), 1 - tailBeyond(difference, margin)];
  const [aNoWorse, bNoWorse] = lowerIsBetter ? [below, above] : [above, below];
  return {
    ...{ margin, aNoWorse, bNoWorse, p: Math.max(aNoWorse, bNoWorse) },
    smallestMargin: smallestMargin(difference, LEVEL),
  };
}

/** The margin at which a difference would just be called equivalent at a level: the farther end of an interval of 1 - 2 levels. */
export function smallestMargin({ mean: difference, standardError, degrees }: MeanWithError, level: number): number {
  return Math.abs(difference) + (standardError === 0 ? 0 : studentQuantile(level, degrees) * standardError);
}

/** The p of a test that the true mean is above a bound. */
function tailBeyond({ mean: difference, standardError, degrees }: MeanWithError, bound: number): number {
  if (standardError === 0) return difference > bound ? 0 : 1;
  return studentTail((difference - bound) / standardError, degrees);
}

/**
 * Holm's adjustment of the one-sided tests of some pairs, two a pair: that neither is worse. At most one of the two null hypotheses of a
 * pair can hold, so that each step counts the pairs of which a test is left, not the tests (Shaffer, JASA 1986).
 */
export function holmOfBothSides(pairs: readonly (readonly [number, number])[]): [number, number][] {
  const adjusted = pairs.map(([a, b]): [number, number] => [a, b]);
  const left = pairs.map(() => 2);
  let pairsLeft = pairs.length;
  let least = 0;
  const tests = pairs.flatMap((ps, pair) => ps.map((p, side) => ({ p, pair, side }))).sort((a, b) => a.p - b.p);
  for (const { p, pair, side } of tests) {
    least = Math.max(least, Math.min(1, pairsLeft * p));
    (adjusted[pair] as [number, number])[side as 0 | 1] = least;
    left[pair] = (left[pair] as number) - 1;
    if (left[pair] === 0) pairsLeft--;
  }
  return adjusted;
}
