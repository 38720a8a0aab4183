import { gammaln } from 'simple-statistics';

/** P(T >= t) of Student's t, for any positive number of degrees of freedom. */
export function studentTail(t: number, degrees: number): number {
  if (t < 0) return 1 - studentTail(-t, degrees);
  if (t === Infinity) return 0;
  return incompleteBeta(degrees / (degrees + t * t), degrees / 2, 1 / 2) / 2;
}

/** The t that Student's t exceeds with probability `tail`, which is at most one half. */
export function studentQuantile(tail: number, degrees: number): number {
  let high = 1;
  while (studentTail(high, degrees) > tail) high *= 2;
  let low = high === 1 ? 0 : high / 2;
  while (high - low > 1e-13 * high) {
    const middle = (low + high) / 2;
    if (middle === low || middle === high) break;
    if (studentTail(middle, degrees) > tail) low = middle;
    else high = middle;
  }
  return high;
}

/** The regularized incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0 || x >= 1) return Math.min(1, Math.max(0, x));
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(gammaln(a + b) - gammaln(a) - gammaln(b) + a * Math.log(x) + b * Math.log1p(-x));
  return front / (a * betaFraction(x, a, b));
}

/** The continued fraction 1 + d1 / (1 + d2 / (1 + ..)), by Steed's method. */
function betaFraction(x: number, a: number, b: number): number {
  let [value, numerator, denominator] = [1, 1, 0];
  for (let k = 1; k <= 1000; k++) {
    const m = k >> 1;
    const d =
      k % 2 === 0
        ? (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m))
        : (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    denominator = 1 / (1 + d * denominator);
    numerator = 1 + d / numerator;
    const change = numerator * denominator;
    value *= change;
    if (Math.abs(change - 1) < 1e-15) break;
  }
  return value;
}
