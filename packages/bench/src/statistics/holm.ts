/**
 * Holm's step-down adjustment of a family of p values, in their order: the i-th smallest of m is multiplied by m - i + 1, and none
 * is below a smaller one's. Reject where the adjusted p is below a level, and the chance of any false rejection in the family
 * is below it (Holm, Scandinavian Journal of Statistics 1979).
 */
export function holm(ps: readonly number[]): number[] {
  const ascending = ps.map((_, index) => index).sort((a, b) => (ps[a] as number) - (ps[b] as number));
  const adjusted = [...ps];
  let least = 0;
  for (const [rank, index] of ascending.entries()) {
    least = Math.max(least, Math.min(1, (ps.length - rank) * (ps[index] as number)));
    adjusted[index] = least;
  }
  return adjusted;
}
