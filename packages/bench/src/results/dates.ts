import type { TrialResult } from './schema.js';

/**
 * A result dated after all others of its folder, also where the clock was set back in between: of equal trials the newest counts,
 * and that is the one that ended last.
 */
export function datedAfter(others: Iterable<TrialResult>, result: TrialResult): TrialResult {
  const newest = Math.max(...[...others].map(({ finishedAt }) => Date.parse(finishedAt)));
  if (Date.parse(result.finishedAt) > newest) return result;
  return { ...result, finishedAt: new Date(newest + 1).toISOString() };
}
