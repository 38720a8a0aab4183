/**
 * What a graph's integers have to do with the sizes of a batch. A function is traced at several sizes; each integer that differs
 * between the traces is
 *
 *   sum over i, j of c_ij batch^i tokens^j,   i = 0, 1   j = 0, 1, 2   c_ij whole
 *
 * which six traces, two by three, determine. The others must agree.
 */
import { EngineError } from '@peftjs/core';

/** The sizes that a graph is open to. */
export interface Sizes {
  readonly batch: number;
  readonly tokens: number;
}

/** One summand: coefficient * batch^batchPower * tokens^tokensPower. */
export interface Term {
  readonly coefficient: number;
  readonly batchPower: number;
  readonly tokensPower: number;
}

/** An integer that follows from the sizes. Zero has no terms. */
export type Polynomial = readonly Term[];

const BATCHES = [3, 5] as const;
const TOKEN_COUNTS = 3;
/** A further batch, for the traces that only check. */
const OTHER_BATCH = 7;

/** Numbers of tokens, the best first: primes meet no product of other sizes. */
const CANDIDATES: readonly number[] = [13, 17, 19, 23, 29, 11, 31, 7, 5, 3, 4, 6, 2];

/**
 * Where to trace: the six sizes that determine a polynomial, in the order that {@link fitted} takes, then one that checks it and one
 * of the most tokens.
 * @param taken sizes that should mean something else wherever they occur: those of the weights.
 * @throws EngineError for fewer than 4 tokens.
 */
export function tracedSizes(maxTokens: number, taken: ReadonlySet<number>): Sizes[] {
  const possible = CANDIDATES.filter((count) => count <= maxTokens);
  const [first, second, third, other] = [
    ...possible.filter((count) => !taken.has(count)),
    ...possible.filter((count) => taken.has(count)),
  ];
  if (first === undefined || second === undefined || third === undefined || other === undefined) {
    throw new EngineError(
      `a graph for any number of tokens needs a model of at least 5, got ${maxTokens}`,
      'maxTokens',
    );
  }
  const grid = BATCHES.flatMap((batch) => [first, second, third].map((tokens) => ({ batch, tokens })));
  return [...grid, { batch: OTHER_BATCH, tokens: other }, { batch: BATCHES[0], tokens: maxTokens }];
}

/** The polynomial with these values at the traced sizes; undefined where there is none. */
export function fitted(values: readonly number[], sizes: readonly Sizes[]): Polynomial | undefined {
  const tokens = sizes.slice(0, TOKEN_COUNTS).map((at) => at.tokens);
  const [low, high] = BATCHES.map((_, row) =>
    quadratic(values.slice(row * TOKEN_COUNTS, (row + 1) * TOKEN_COUNTS), tokens),
  ) as [number[], number[]];
  const terms = low.flatMap((atLow, tokensPower) => {
    const slope = ((high[tokensPower] as number) - atLow) / (BATCHES[1] - BATCHES[0]);
    return [
      { coefficient: atLow - slope * BATCHES[0], batchPower: 0, tokensPower },
      { coefficient: slope, batchPower: 1, tokensPower },
    ];
  });
  const polynomial = terms.filter(({ coefficient }) => coefficient !== 0);
  const isWhole = polynomial.every(({ coefficient }) => Number.isInteger(coefficient));
  return isWhole && sizes.every((at, index) => valueAt(polynomial, at) === values[index]) ? polynomial : undefined;
}

/** What a polynomial comes to. */
export function valueAt(polynomial: Polynomial, { batch, tokens }: Sizes): number {
  return polynomial.reduce(
    (sum, { coefficient, batchPower, tokensPower }) => sum + coefficient * batch ** batchPower * tokens ** tokensPower,
    0,
  );
}

/** The number that a polynomial is whatever the sizes; undefined where it depends on them. */
export function constantOf(polynomial: Polynomial): number | undefined {
  const [first, ...others] = polynomial;
  if (first === undefined) return 0;
  return others.length === 0 && first.batchPower + first.tokensPower === 0 ? first.coefficient : undefined;
}

/** Coefficients of 1, x and x^2 of the parabola through three points, by Newton's differences. */
function quadratic(values: readonly number[], at: readonly number[]): number[] {
  const [a, b, c] = values as [number, number, number];
  const [x, y, z] = at as [number, number, number];
  const slope = (b - a) / (y - x);
  const bend = ((c - b) / (z - y) - slope) / (z - x);
  return [a - slope * x + bend * x * y, slope - bend * (x + y), bend];
}
