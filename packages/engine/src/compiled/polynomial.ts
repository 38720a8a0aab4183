/**
 * How the integers of a graph depend on the sizes of its named axes. A function is traced at several sizes. An integer
 * that differs between the traces is assumed to be
 *
 *   (sum over m of c_m m) / d      m: products of axes, e.g. batch, batch * tokens, tokens^2; c_m whole, d 1 or 2
 *
 * with as few terms as possible. The formula must hold in at least one trace that did not determine it, and in two if
 * its coefficients are not small: the fewer traces support it, the more likely another formula fits by chance.
 */

import type { Sizes } from '../axes.js';

/** One summand: coefficient * the product of the axes. An axis may occur several times; a constant has none. */
interface Term {
  readonly coefficient: number;
  readonly axes: readonly string[];
}

/** An integer that follows from the sizes. Zero has no terms. */
export interface Polynomial {
  /** The summands. */
  readonly terms: readonly Term[];
  /** The divisor of their sum. */
  readonly divisor: 1 | 2;
}

/** A polynomial; 'none' if a value is not an integer; 'undetermined' if more traces are needed. */
export type Fit = Polynomial | 'none' | 'undetermined';

/** The value of a polynomial at the given sizes. */
function valueAt({ terms, divisor }: Polynomial, sizes: Sizes): number {
  return terms.reduce((sum, term) => sum + term.coefficient * product(term.axes, sizes), 0) / divisor;
}

/** The value of a polynomial that does not depend on the sizes; undefined for any other. */
export function constantOf({ terms: [first, ...others] }: Polynomial): number | undefined {
  if (first === undefined) return 0;
  return others.length === 0 && first.axes.length === 0 ? first.coefficient : undefined;
}

/** Writes a polynomial as the name of an axis, e.g. `batch*tokens + -1`. */
export function shownPolynomial({ terms, divisor }: Polynomial): string {
  const sum = terms.map(({ coefficient, axes }) =>
    [...(coefficient === 1 && axes.length > 0 ? [] : [String(coefficient)]), ...axes].join('*'),
  );
  return divisor === 1 ? sum.join(' + ') : `(${sum.join(' + ')})/${divisor}`;
}

/** The highest power of one axis in a product that is tried. */
const HIGHEST_POWER = 2;
/** The most factors of a product that is tried. */
const MAX_FACTORS = 4;
/**
 * The most terms of a sum if there are more than MANY_PRODUCTS products to choose from. In any case, fewer than there
 * are traces.
 */
const MAX_TERMS = 3;
const MANY_PRODUCTS = 30;
/** The sum of coefficients up to which one trace is enough to check a formula. */
const SMALL = 8;

/** Finds polynomials for values at the sizes of the traces. */
export class Fitter {
  readonly #sizes: readonly Sizes[];
  readonly #products: readonly Product[];
  readonly #known = new Map<string, Fit>();

  /** @param sizes the sizes of the same named axes in each trace */
  constructor(sizes: readonly Sizes[]) {
    this.#sizes = sizes;
    this.#products = productsOf(Object.keys(sizes[0] ?? {})).map((axes) => ({
      axes,
      at: sizes.map((size) => product(axes, size)),
    }));
  }

  /** @param values one value per trace */
  fit(values: readonly number[]): Fit {
    if (!values.every(Number.isInteger)) return 'none';
    const [first = 0] = values;
    if (values.every((value) => value === first)) return constant(first);
    const key = values.join();
    const known = this.#known.get(key) ?? this.#search(values);
    this.#known.set(key, known);
    return known;
  }

  #search(values: readonly number[]): Fit {
    const traces = values.length;
    const most = this.#products.length > MANY_PRODUCTS ? Math.min(MAX_TERMS, traces - 1) : traces - 1;
    for (let count = 1; count <= most; count++) {
      const found: Polynomial[] = [];
      for (const chosen of choices(this.#products, count)) {
        const polynomial = this.#solved(chosen, values);
        if (polynomial) found.push(polynomial);
      }
      const [only, ...others] = found;
      if (only === undefined) continue;
      const weight = only.terms.reduce((sum, { coefficient }) => sum + Math.abs(coefficient), 0);
      const isSure = others.length === 0 && (traces - count > 1 || weight <= SMALL);
      return isSure ? only : 'undetermined';
    }
    return 'undetermined';
  }

  /** The sum of these products that has the given values; undefined if no such coefficients exist. */
  #solved(chosen: readonly Product[], values: readonly number[]): Polynomial | undefined {
    const coefficients = solve(
      chosen.map((_, row) => [...chosen.map(({ at }) => at[row] as number), values[row] as number]),
    );
    if (coefficients === undefined) return undefined;
    const isWhole = coefficients.every((value) => isNearlyWhole(value));
    const divisor = isWhole ? 1 : 2;
    const whole = coefficients.map((value) => Math.round(value * divisor));
    if (whole.includes(0) || !coefficients.every((value) => isNearlyWhole(value * divisor))) return undefined;
    const terms = chosen.map(({ axes }, index) => ({ coefficient: whole[index] as number, axes }));
    const polynomial = { terms, divisor } as const;
    return values.every((value, trace) => valueAt(polynomial, this.#sizes[trace] as Sizes) === value)
      ? polynomial
      : undefined;
  }
}

interface Product {
  readonly axes: readonly string[];
  /** Its value in each trace. */
  readonly at: readonly number[];
}

function constant(value: number): Fit {
  return { terms: value === 0 ? [] : [{ coefficient: value, axes: [] }], divisor: 1 };
}

function product(axes: readonly string[], sizes: Sizes): number {
  return axes.reduce((result, axis) => result * (sizes[axis] as number), 1);
}

/** The products of axes that are tried, smallest first: 1, a, b, a a, a b, .. */
function productsOf(axes: readonly string[]): string[][] {
  const all = axes.reduce<string[][]>(
    (products, axis) =>
      products.flatMap((factors) =>
        Array.from({ length: HIGHEST_POWER + 1 }, (_, power) => [...factors, ...Array<string>(power).fill(axis)]),
      ),
    [[]],
  );
  return all.filter(({ length }) => length <= MAX_FACTORS).sort((a, b) => a.length - b.length);
}

/** All choices of `count` items, in order. */
function* choices<T>(items: readonly T[], count: number, from = 0): Generator<T[]> {
  if (count === 0) {
    yield [];
    return;
  }
  for (let index = from; index <= items.length - count; index++) {
    for (const others of choices(items, count - 1, index + 1)) yield [items[index] as T, ...others];
  }
}

function isNearlyWhole(value: number): boolean {
  return Math.abs(value - Math.round(value)) < 1e-6;
}

/** Gaussian elimination of rows [.., right side]; undefined for dependent rows. */
function solve(rows: number[][]): number[] | undefined {
  const size = rows.length;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column + 1; row < size; row++) {
      if (Math.abs(rows[row]?.[column] as number) > Math.abs(rows[pivot]?.[column] as number)) pivot = row;
    }
    const [top, other] = [rows[pivot] as number[], rows[column] as number[]];
    if (Math.abs(top[column] as number) < 1e-9) return undefined;
    [rows[column], rows[pivot]] = [top, other];
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = (rows[row]?.[column] as number) / (top[column] as number);
      if (factor === 0) continue;
      rows[row] = (rows[row] as number[]).map((value, at) => value - factor * (top[at] as number));
    }
  }
  return rows.map((row, index) => (row[size] as number) / (row[index] as number));
}
