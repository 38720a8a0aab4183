import { statSync } from 'node:fs';

/** How many rows a run needs of a training file. */
export type SampledRows = Readonly<
  Record<'rows' | 'devRows', number | null> & Partial<Record<'selectionRows', number | null>>
>;

/** The bytes from which on a file is read as a stream if a run needs only some of its rows. */
const LARGE_FILE = 2 ** 24;
/** A file has this many times the rows that are held out of it. */
const HELD_OUT_OF = 10;

/** The number of rows to keep of a large training file, enough for all sets; undefined to read all. */
export function rowsToRead(
  { train, dev }: { readonly train: string; readonly dev?: string | undefined },
  { rows, selectionRows, devRows }: SampledRows = { rows: null, devRows: null },
): number | undefined {
  if (rows === null || (statSync(train, { throwIfNoEntry: false })?.size ?? 0) < LARGE_FILE) return undefined;
  const trained = rows + (selectionRows ?? 0);
  if (dev !== undefined) return trained;
  return HELD_OUT_OF * Math.max(Math.ceil(trained / (HELD_OUT_OF - 1)), devRows ?? 0);
}
