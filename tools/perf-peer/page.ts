import { readFile, writeFile } from 'node:fs/promises';
import { format, resolveConfig } from 'prettier';

/**
 * Puts each text between the marks of its name in a Markdown page: `<!-- name:begin -->` and `<!-- name:end -->`.
 * @throws RangeError naming the marks that the page lacks.
 */
export async function writeInto(page: string, texts: Readonly<Record<string, string>>): Promise<void> {
  const before = await readFile(page, 'utf8');
  const after = Object.entries(texts).reduce((whole, [name, text]) => between(whole, page, name, text), before);
  await writeFile(page, await format(after, { ...(await resolveConfig(page)), filepath: page }));
}

function between(whole: string, page: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
  const [start, stop] = [whole.indexOf(begin), whole.indexOf(end)];
  if (start < 0 || stop < start) throw new RangeError(`${page} has no ${begin} with an ${end} after it`);
  return `${whole.slice(0, start + begin.length)}\n\n${text}\n\n${whole.slice(stop)}`;
}

/** A table of Markdown: the first column to the left, the others to the right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const align = head.map((_, column) => (column === 0 ? '---' : '--:'));
  return [head, align, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
