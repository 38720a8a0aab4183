import type { TrialResult } from './schema.js';

/**
 * A result dated after all others of its folder, also where the clock was set back in between: of equal trials the newest counts,
 * and that is the one that ended last.
 */
export function datedAfter(others: Iterable<TrialResult>, result: TrialResult): TrialResult {
  const newest = Math.max(...[...others].map(({ finishedAt }) => Date.parse(finishedAt)));
  if (Date.parse(result.finishedAt) > newest) return result;
  return { ...result, finishedAt: new Date(Math.min(newest + 1, LAST)).toISOString() };
}

/** The last date that has four digits for its year, which a result file wants. */
const LAST = Date.UTC(10_000, 0) - 1;
