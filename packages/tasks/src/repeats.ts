/** A row can move by this many batches to either side, whose rows have about the same length. */
const REACH = 8;

/** A row, and the keys of its texts. */
interface Entry {
  readonly row: number;
  readonly texts: readonly string[];
}

/**
 * Exchanges rows between nearby batches so that, where possible, no batch has a text twice. A loss that ranks the texts
 * of a batch treats those of other rows as wrong answers, but a repeated text is a right one. Batch sizes do not
 * change.
 * @param textsOf returns the keys of a row's texts, without repeats
 */
export function spreadRepeats(
  batches: readonly (readonly number[])[],
  textsOf: (row: number) => readonly string[],
): number[][] {
  const spread = batches.map((rows) => rows.map((row): Entry => ({ row, texts: textsOf(row) })));
  const counts = spread.map(() => new Map<string, number>());
  const count = (batch: number, text: string): number => counts[batch]?.get(text) ?? 0;
  const add = (batch: number, { texts }: Entry, by: number): void => {
    for (const text of texts) counts[batch]?.set(text, count(batch, text) + by);
  };
  const fits = ({ texts }: Entry, batch: number, instead: Entry): boolean =>
    texts.every((text) => count(batch, text) <= Number(instead.texts.includes(text)));
  const put = (entry: Entry, batch: number, place: number, instead: Entry): void => {
    add(batch, instead, -1);
    add(batch, entry, 1);
    (spread[batch] as Entry[])[place] = entry;
  };
  for (const [batch, entries] of spread.entries()) for (const entry of entries) add(batch, entry, 1);
  for (const [batch, entries] of spread.entries()) {
    for (const [place, entry] of entries.entries()) {
      if (!entry.texts.some((text) => count(batch, text) > 1)) continue;
      for (const to of nearby(batch, spread.length)) {
        const others = spread[to] as Entry[];
        const of = others.findIndex((other) => fits(other, batch, entry) && fits(entry, to, other));
        if (of < 0) continue;
        const other = others[of] as Entry;
        put(entry, to, of, other);
        put(other, batch, place, entry);
        break;
      }
    }
  }
  return spread.map((entries) => entries.map(({ row }) => row));
}

/** The other batches within reach, nearest first. */
function nearby(batch: number, batches: number): number[] {
  const distances = Array.from({ length: REACH }, (_, index) => index + 1);
  return distances.flatMap((far) => [batch + far, batch - far]).filter((to) => to >= 0 && to < batches);
}
