/** Rows a result file keeps at most. */
export const HISTORY_ROWS = 400;

/** Rows between evaluations that keep their ranks, which are as many numbers as there are modules. */
const RANK_ROWS = 40;

/**
 * At most `limit` rows of a training curve, in order: those with metrics first, then evenly spaced ones with ranks, then evenly
 * spaced ones of the others, whose ranks are left out.
 */
export function boundedHistory<Row extends { readonly metrics?: unknown; readonly ranks?: unknown }>(
  rows: readonly Row[],
  limit = HISTORY_ROWS,
): Row[] {
  const between = rows.filter((row) => row.metrics === undefined);
  const evaluated = evenly(
    rows.filter((row) => row.metrics !== undefined),
    limit,
  );
  const ranked = evenly(
    between.filter((row) => row.ranks !== undefined),
    Math.min(RANK_ROWS, limit - evaluated.length),
  );
  const whole = new Set([...evaluated, ...ranked]);
  const others = new Set(
    evenly(
      between.filter((row) => !whole.has(row)),
      limit - whole.size,
    ),
  );
  return rows.flatMap((row) => (whole.has(row) ? [row] : others.has(row) ? [withoutRanks(row)] : []));
}

function withoutRanks<Row extends { readonly ranks?: unknown }>(row: Row): Row {
  const { ranks: _, ...rest } = row;
  return rest as Row;
}

/** `amount` rows at even distances, the last one among them. */
function evenly<Row>(rows: readonly Row[], amount: number): readonly Row[] {
  if (rows.length <= amount) return rows;
  return rows.filter(
    (_, index) => Math.floor(((index + 1) * amount) / rows.length) > Math.floor((index * amount) / rows.length),
  );
}
