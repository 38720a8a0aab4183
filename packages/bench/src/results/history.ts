/** Rows a result file keeps at most. */
export const HISTORY_ROWS = 400;

/**
 * At most `limit` rows of a training curve, in order: those with metrics first, then evenly spaced ones between them.
 */
export function boundedHistory<Row extends { readonly metrics?: unknown }>(
  rows: readonly Row[],
  limit = HISTORY_ROWS,
): Row[] {
  const evaluated = evenly(
    rows.filter((row) => row.metrics !== undefined),
    limit,
  );
  const others = evenly(
    rows.filter((row) => row.metrics === undefined),
    limit - evaluated.length,
  );
  const kept = new Set([...evaluated, ...others]);
  return rows.filter((row) => kept.has(row));
}

/** `amount` rows at even distances, the last one among them. */
function evenly<Row>(rows: readonly Row[], amount: number): readonly Row[] {
  if (rows.length <= amount) return rows;
  return rows.filter(
    (_, index) => Math.floor(((index + 1) * amount) / rows.length) > Math.floor((index * amount) / rows.length),
  );
}
