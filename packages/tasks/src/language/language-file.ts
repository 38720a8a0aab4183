import { errorAt, excerpt } from '../table/table.js';

/** Fields that a row of `readLanguageSet` has, and none of a table. */
const LANGUAGE_FIELDS = ['text', 'messages', 'prompt', 'completion'];
/** Columns that make a row one of `readTable`, whatever else it has. */
const TABLE_FIELDS = ['label', 'text_a', 'text_b'];

/**
 * Whether a file is one of `readLanguageSet` and no table of `readTable`: `.txt`, or JSON lines without labels. The first line
 * decides; what is no JSON is left to the reader of tables, which says so.
 * @param head the beginning of the file, with the first line: at most 4 MB
 * @throws DataError for JSON lines that are neither.
 */
export function isLanguageFile(head: Uint8Array, path: string): boolean {
  const lower = path.toLowerCase();
  if (!lower.endsWith('.jsonl')) return lower.endsWith('.txt');
  const lines = new TextDecoder().decode(head).split('\n');
  const first = lines.findIndex((content) => content.trim());
  const fields = fieldsOf(lines[first] ?? '');
  if (fields === undefined || TABLE_FIELDS.some((name) => fields.includes(name))) return false;
  if (LANGUAGE_FIELDS.some((name) => fields.includes(name))) return true;
  const came = fields.slice(0, 12).map(excerpt).join(', ') || 'an empty object';
  const forms = '"text" alone, "prompt" and "completion", or "messages" for a language model';
  throw errorAt(path, first + 1, `expected "text" and "label", or ${forms}, got ${came}`);
}

/** The fields of a JSON object; undefined of anything else. */
function fieldsOf(content: string): string[] | undefined {
  try {
    const value: unknown = JSON.parse(content);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? Object.keys(value) : undefined;
  } catch {
    return undefined;
  }
}
