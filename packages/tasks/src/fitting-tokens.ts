/** Rows, in percent, that a length chosen from data holds whole. */
const PERCENT = 99;
/** Batches are padded to multiples of it, so that a length in between saves nothing. */
const MULTIPLE = 8;

/**
 * A maximum length for rows of so many tokens each: their 99th percentile (nearest rank), rounded up to a multiple of 8. Fewer than
 * a hundred rows therefore all fit.
 * @param most never exceeded; also what is given for no rows
 */
export function fittingTokens(counts: readonly number[], most: number): number {
  const ascending = Float64Array.from(counts).sort();
  const percentile = ascending[Math.ceil((PERCENT * ascending.length) / 100) - 1] ?? most;
  return Math.min(most, Math.ceil(percentile / MULTIPLE) * MULTIPLE);
}
