import { DataError } from '@peftjs/core/method';
import { errorAt, excerpt, type Table, type TableRecord } from './table.js';

/** The columns of a table of tagged sentences. */
export const TOKENS = 'tokens';
export const TAGS = 'ner_tags';

/** The beginning of the line between two documents. */
const DOCUMENT = '-DOCSTART-';
/** Lines that some data sets put above a sentence: `# id 5f`, `# text = ..`. */
const COMMENT = /^#\s+(?:id\s|\w+\s*=)/;

/**
 * Parses sentences in the format of the CoNLL tasks: one token per line, with its tag in the last column, and a blank
 * line after each sentence. A line is split at tabs if it has any, otherwise at spaces.
 * @returns a table with the lists `tokens` and `ner_tags`
 * @throws DataError for a line with another number of columns than the first, or fewer than two, or when there is no
 * sentence.
 */
export function parseConll(text: string, path: string): Table<unknown> {
  const records: TableRecord<unknown>[] = [];
  let [tokens, tags, start, width]: [string[], string[], number, number | undefined] = [[], [], 1, undefined];
  const close = (): void => {
    if (tokens.length > 0) {
      const cells = new Map([
        [TOKENS, tokens],
        [TAGS, tags],
      ]);
      records.push({ line: start, cells });
    }
    [tokens, tags] = [[], []];
  };
  text.split('\n').forEach((content, index) => {
    const line = index + 1;
    if (!content.trim() || content.startsWith(DOCUMENT)) {
      close();
      return;
    }
    if (tokens.length === 0 && COMMENT.test(content)) return;
    const cells = cellsOf(content);
    const [token, tag] = [cells[0], cells.at(-1)];
    if (cells.length < 2 || !token || !tag) {
      throw errorAt(path, line, `expected a token, and its tag in the last column, got ${excerpt(content)}`);
    }
    width ??= cells.length;
    if (cells.length !== width) {
      throw errorAt(path, line, `expected ${width} columns as in the first sentence, got ${cells.length}`);
    }
    if (tokens.length === 0) start = line;
    tokens.push(token);
    tags.push(tag);
  });
  close();
  if (records.length === 0) throw new DataError(`${path}: expected sentences, got none`, path);
  return { columns: [TOKENS, TAGS], line: 1, records };
}

function cellsOf(content: string): string[] {
  const cells = content.includes('\t') ? content.split('\t').map(withoutBlanks) : withoutBlanks(content).split(/ +/);
  return cells.at(-1) === '' ? cells.slice(0, -1) : cells;
}

/** Removes leading and trailing spaces only: a token may itself be another kind of blank. */
function withoutBlanks(text: string): string {
  return text.replace(/^ +|(?<! ) +$/g, '');
}
