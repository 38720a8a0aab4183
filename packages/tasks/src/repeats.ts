/** A row can move by this many batches to either side, whose rows have about the same length. */
const REACH = 8;

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
  const spread = batches.map((rows) => rows.map((row) => ({ row, texts: textsOf(row) })));
  const counts = spread.map((entries) => countsOf(entries.flatMap(({ texts }) => texts)));
  const fits = (incoming: readonly string[], batch: number, outgoing: readonly string[]): boolean =>
    incoming.every((text) => (counts[batch]?.get(text) ?? 0) <= Number(outgoing.includes(text)));
  const isRepeated = (texts: readonly string[], batch: number): boolean =>
    texts.some((text) => (counts[batch]?.get(text) ?? 0) > 1);
  const exchange = (a: Place, b: Place): void => {
    const [first, second] = [at(spread, a), at(spread, b)];
    for (const [{ batch, place }, from, to] of [
      [a, first, second],
      [b, second, first],
    ] as const) {
      (spread[batch] as Entry[])[place] = to;
      for (const text of from.texts) add(counts[batch], text, -1);
      for (const text of to.texts) add(counts[batch], text, 1);
    }
  };
  for (const [batch, entries] of spread.entries()) {
    for (let place = 0; place < entries.length; place++) {
      const { texts } = entries[place] as Entry;
      if (!isRepeated(texts, batch)) continue;
      const other = nearby(batch, spread.length)
        .flatMap((to) => (spread[to] as Entry[]).map((_, of): Place => ({ batch: to, place: of })))
        .find((to) => {
          const candidate = at(spread, to).texts;
          return fits(candidate, batch, texts) && fits(texts, to.batch, candidate);
        });
      if (other) exchange({ batch, place }, other);
    }
  }
  return spread.map((entries) => entries.map(({ row }) => row));
}

interface Entry {
  readonly row: number;
  readonly texts: readonly string[];
}

interface Place {
  readonly batch: number;
  readonly place: number;
}

function at(batches: readonly (readonly Entry[])[], { batch, place }: Place): Entry {
  return batches[batch]?.[place] as Entry;
}

/** The other batches within reach, nearest first. */
function nearby(batch: number, batches: number): number[] {
  const distances = Array.from({ length: REACH }, (_, index) => index + 1);
  return distances.flatMap((far) => [batch + far, batch - far]).filter((to) => to >= 0 && to < batches);
}

function countsOf(texts: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const text of texts) add(counts, text, 1);
  return counts;
}

function add(counts: Map<string, number> | undefined, text: string, by: number): void {
  counts?.set(text, (counts.get(text) ?? 0) + by);
}
