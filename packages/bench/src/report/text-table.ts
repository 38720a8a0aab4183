import { displayWidth, padded } from './text.js';

const GAP = '  ';

/** A plain table: every column as wide as its widest cell, the columns of `numbers` flush right. */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  numbers: readonly number[],
): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((cells) => displayWidth(cells[column] ?? ''))));
  const aligned = (cell: string, column: number): string => {
    const width = widths[column] ?? 0;
    return numbers.includes(column) ? ' '.repeat(width - displayWidth(cell)) + cell : padded(cell, width);
  };
  return all.map((cells) => `${cells.map(aligned).join(GAP).trimEnd()}\n`).join('');
}
