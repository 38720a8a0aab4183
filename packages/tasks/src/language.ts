import { ConfigError, DataError, parseOptions } from '@peftjs/core/method';
import {
  aList,
  assertArgument,
  aText,
  messageProblem,
  objectLike,
  toolsProblem,
  type ChatMessage,
  type ChatTool,
} from '@peftjs/core/model';
import * as v from 'valibot';
import { fingerprintOf, type TaskKind } from './data-set.js';
import { type ColumnOptions, isTableHeader } from './columns.js';
import { fileBytes, fileStem } from './read-table.js';
import { decodeText, errorAt, excerpt, type JsonLine, jsonLines, listed, readEach } from './table.js';

/** A text; all of it is learnt. */
export interface TextRow {
  /** The text. */
  readonly text: string;
}

/** A prompt and its completion; only the completion is learnt. */
export interface PromptRow {
  /** The prompt; it may be empty. */
  readonly prompt: string;
  /** The completion. */
  readonly completion: string;
}

/** A conversation; only the assistant's messages are learnt. */
export interface ChatRow {
  /** The messages, oldest first. */
  readonly messages: readonly Message[];
  /** The tools that the assistant may call. */
  readonly tools?: readonly ChatTool[];
}

/**
 * A prompt with a better and a worse answer, all texts or all lists of messages. Answers begin with a message of the
 * assistant; only their assistant messages are learnt.
 */
export interface PreferenceRow<T extends string | readonly Message[] = string | readonly Message[]> {
  /** What was asked; a text may be empty. */
  readonly prompt: T;
  /** The preferred answer. */
  readonly chosen: T;
  /** The other answer. */
  readonly rejected: T;
  /** The tools that the assistant may call. */
  readonly tools?: readonly ChatTool[];
}

/** A message of a conversation. */
export interface Message extends ChatMessage {
  /** The author of the message. */
  readonly role: Role;
}

/** The author of a message. */
export type Role = 'system' | 'user' | 'assistant' | 'tool';

/** Rows for a causal language model: texts, prompts with completions, conversations, or preferences. */
export interface LanguageSet {
  /** The name of the set. */
  readonly name: string;
  /** The rows, all of one form. */
  readonly rows: readonly TextRow[] | readonly PromptRow[] | readonly ChatRow[] | readonly PreferenceRow[];
  /** SHA-256, in hexadecimal, of the rows. */
  readonly fingerprint: string;
}

/** A schema for language sets. */
export const aLanguageSet = objectLike<LanguageSet>('a language set, e.g. of languageSet: await it', {
  name: 'string',
  rows: 'list',
});

/** A training set and a development set for a causal language model. */
export interface LanguageTask {
  /** The name of the task. */
  readonly name: string;
  /** The kind of its data. */
  readonly kind: 'causal-lm' | 'preferences';
  /** The rows to train on. */
  readonly train: LanguageSet;
  /** The rows that results are reported on. */
  readonly dev: LanguageSet;
}

/** The end of a document in a text file: the end of the file, a blank line, or the end of each line. */
export type DocumentEnd = 'file' | 'paragraph' | 'line';

/** Options of {@link readLanguageSet}. */
export interface LanguageSetOptions {
  /** The path, for error messages; its extension decides the format: `.txt` or `.jsonl`. */
  readonly path: string;
  /** The end of a document in a text file. Default 'file'. */
  readonly documentEnd?: DocumentEnd | undefined;
}

/** Whether the rows of a set are texts, which are packed into rows of tokens. */
export function isTextSet(set: Pick<LanguageSet, 'rows'>): set is { readonly rows: readonly TextRow[] } {
  const { rows } = set;
  return rows[0] !== undefined && 'text' in rows[0];
}

/** Whether the rows of a set are preferences. */
export function isPreferenceSet(set: Pick<LanguageSet, 'rows'>): set is { readonly rows: readonly PreferenceRow[] } {
  const { rows } = set;
  return rows[0] !== undefined && 'rejected' in rows[0];
}

/** Whether the rows of a set are conversations, which need a chat template. */
export function isChatSet({ rows }: Pick<LanguageSet, 'rows'>): boolean {
  const [first] = rows;
  return first !== undefined && ('messages' in first || ('rejected' in first && typeof first.prompt !== 'string'));
}

const languageEntries = {
  path: aText,
  documentEnd: v.optional(v.picklist(['file', 'paragraph', 'line'])),
} satisfies Record<keyof LanguageSetOptions, unknown>;

const roles: readonly unknown[] = ['system', 'user', 'assistant', 'tool'] satisfies Role[];

/**
 * Reads a `.txt` file, or JSON lines of one form: `{"text"}`, `{"prompt", "completion"}`, `{"messages": [{"role",
 * "content"}]}`, or `{"prompt", "chosen", "rejected"}` of texts or of messages, also with `"tools"`. Without
 * `"prompt"`, or where it repeats the text of one of them, the messages that both answers begin with are the prompt.
 * All fields of a message are kept for the chat template; other fields of a row are ignored. Texts are not trimmed:
 * blanks matter to a language model.
 * @throws DataError for the first problem, in one line with the path and the line number.
 */
export async function readLanguageSet(bytes: Uint8Array, options: LanguageSetOptions): Promise<LanguageSet> {
  assertArgument('bytes', bytes, fileBytes);
  parseOptions('readLanguageSet', languageEntries, options);
  const { path, documentEnd = 'file' } = options;
  const text = decodeText(bytes, path);
  const rows = isJsonLines(path) ? rowsOf(jsonLines(text, path), path) : documents(text, documentEnd);
  return languageSet(fileStem(path), rows);
}

/**
 * Creates a language set and computes the fingerprint of its rows. @throws ConfigError for rows that are not all of one
 * form.
 */
export async function languageSet(name: string, rows: LanguageSet['rows']): Promise<LanguageSet> {
  assertArgument('name', name, aText);
  assertArgument('rows', rows, aList);
  assertOneForm(rows);
  const kind = isPreferenceSet({ rows }) ? 'preferences' : 'causal-lm';
  return { name, rows, fingerprint: await fingerprintOf([kind, rows.length], rows) };
}

const EXPECTED = '"text", "prompt" and "completion", "messages", or "prompt", "chosen" and "rejected"';

/** The fields of each form of rows. */
const FORMS = [['prompt', 'chosen', 'rejected'], ['messages'], ['prompt', 'completion'], ['text']];

function assertOneForm(rows: readonly object[]): void {
  const has = (row: object, fields: readonly string[]) => fields.every((field) => field in row);
  const form = FORMS.find((fields) => has(rows[0] ?? {}, fields));
  const odd = rows.findIndex((row) => !form || !has(row, form));
  if (odd === -1) return;
  const expected = form ? `${listed(form)}, as row 1 has` : EXPECTED;
  throw new ConfigError(
    `rows: expected ${expected}, got ${listed(Object.keys(rows[odd] ?? {}), 'an empty object')} in row ${odd + 1}`,
    'rows',
  );
}

function isJsonLines(path: string): boolean {
  const lower = path.toLowerCase();
  if (lower.endsWith('.jsonl')) return true;
  if (lower.endsWith('.txt')) return false;
  throw new DataError(`${path}: expected a file that ends in .txt or .jsonl`, path);
}

function documents(text: string, end: DocumentEnd): TextRow[] {
  if (end === 'file') return [{ text }];
  return text
    .split(end === 'line' ? '\n' : /\n(?:[^\S\n]*\n)+/)
    .filter((document) => document.trim())
    .map((document) => ({ text: document }));
}

function rowsOf(lines: readonly JsonLine[], path: string): LanguageSet['rows'] {
  const [first] = lines;
  const has = (field: string) => first !== undefined && Object.hasOwn(first.object, field);
  const isPreference = has('chosen') && has('rejected'); // also where `messages` hold the preferred answer
  if (has('messages') && !isPreference) return readEach(lines, path, (line) => chatRowOf(line, path));
  if (has('chosen') || has('rejected')) return readEach(lines, path, (line) => preferenceRowOf(line, path));
  if (has('prompt') || has('completion')) {
    return readEach(lines, path, (line) => ({
      prompt: stringOf(line, 'prompt', path),
      completion: filled(line, 'completion', path),
    }));
  }
  if (has('text')) return readEach(lines, path, (line) => ({ text: filled(line, 'text', path) }));
  const found = listed(Object.keys(first?.object ?? {}), 'an empty object');
  throw errorAt(path, first?.line ?? 1, `expected ${EXPECTED}, got ${found}`);
}

function chatRowOf(line: JsonLine, path: string): ChatRow {
  const messages = messagesOf(line, 'messages', path);
  if (!messages.some(({ role }) => role === 'assistant')) {
    throw errorAt(path, line.line, 'expected a message with the role "assistant", which is learnt, got none');
  }
  return { messages, ...toolsOf(line, path) };
}

function toolsOf(line: JsonLine, path: string): Pick<ChatRow, 'tools'> {
  const tools = fieldOf(line, 'tools');
  const problem = toolsProblem(tools);
  if (problem !== undefined) throw errorAt(path, line.line, problem);
  return Array.isArray(tools) ? { tools: tools as ChatTool[] } : {};
}

function messagesOf(line: JsonLine, field: string, path: string): Message[] {
  const value = fieldOf(line, field);
  if (!Array.isArray(value) || value.length === 0) {
    throw errorAt(path, line.line, `expected "${field}" to be a list of messages, got ${shown(value)}`);
  }
  const where = field === 'messages' ? '' : ` of "${field}"`;
  value.forEach((message: unknown, index) => {
    const problem = messageProblem(message) ?? roleProblem((message as ChatMessage).role);
    if (problem !== undefined) throw errorAt(path, line.line, `message ${index + 1}${where}: ${problem}`);
  });
  return value as Message[];
}

function preferenceRowOf(line: JsonLine, path: string): PreferenceRow {
  if (typeof fieldOf(line, 'chosen') === 'string') {
    const prompt = stringOf(line, 'prompt', path);
    return { prompt, chosen: filled(line, 'chosen', path), rejected: filled(line, 'rejected', path) };
  }
  const [chosen, rejected] = [messagesOf(line, 'chosen', path), messagesOf(line, 'rejected', path)];
  const prompt = fieldOf(line, 'prompt');
  const shared = withoutPrompt(chosen, rejected);
  const isShared = prompt === undefined || shared.prompt.some(({ content }) => content === prompt);
  const row = isShared ? shared : { prompt: messagesOf(line, 'prompt', path), chosen, rejected };
  for (const answer of ['chosen', 'rejected'] as const) {
    const role = row[answer][0]?.role;
    if (role === 'assistant') continue;
    const found = role === undefined ? 'the same messages in both' : `the role ${excerpt(role)}`;
    throw errorAt(path, line.line, `expected "${answer}" to answer with a message of the assistant, got ${found}`);
  }
  return { ...row, ...toolsOf(line, path) };
}

/** Separates two conversations from the messages that they share at their beginning, as TRL does. */
function withoutPrompt(chosen: readonly Message[], rejected: readonly Message[]): PreferenceRow<readonly Message[]> {
  const differ = (message: Message, at: number) => JSON.stringify(message) !== JSON.stringify(rejected[at]);
  const found = chosen.findIndex(differ);
  const from = found === -1 ? chosen.length : found;
  return { prompt: chosen.slice(0, from), chosen: chosen.slice(from), rejected: rejected.slice(from) };
}

function roleProblem(role: string): string | undefined {
  return roles.includes(role) ? undefined : `expected 'role' to be one of ${roles.join(', ')}, got ${excerpt(role)}`;
}

function filled(line: JsonLine, field: string, path: string): string {
  const text = stringOf(line, field, path);
  if (text.trim()) return text;
  throw errorAt(path, line.line, `the row has no ${field}; fill it in or remove the row`);
}

function stringOf(line: JsonLine, field: string, path: string): string {
  const value = fieldOf(line, field);
  if (typeof value === 'string') return value;
  throw errorAt(path, line.line, `expected ${excerpt(field)} to be a string, got ${shown(value)}`);
}

function fieldOf({ object }: JsonLine, field: string): unknown {
  return Object.hasOwn(object, field) ? (object as Record<string, unknown>)[field] : undefined;
}

function shown(value: unknown): string {
  return value === undefined ? 'nothing' : excerpt(JSON.stringify(value));
}

/** Fields of the rows that `readLanguageSet` reads. */
const LANGUAGE_FIELDS = ['text', 'messages', 'prompt', 'completion', 'chosen', 'rejected'];

/**
 * Whether a file is one for `readLanguageSet` rather than a table for `readTable`: `.txt`, or JSON lines without labels,
 * whose texts have no pairs. The first line decides; if it is not JSON, the file counts as a table, whose reader reports
 * the error.
 * @param head the beginning of the file, including the first line: at most 4 MB
 * @param columns the column options. If they name a column, JSON lines are a table; if the kind is
 * token-classification, a `.txt` file is CoNLL.
 * @throws DataError for JSON lines that are neither.
 */
export function isLanguageFile(
  head: Uint8Array,
  path: string,
  columns: ColumnOptions & { readonly kind?: TaskKind | undefined } = {},
): boolean {
  const lower = path.toLowerCase();
  if (!lower.endsWith('.jsonl')) return lower.endsWith('.txt') && columns.kind !== 'token-classification';
  if ([columns.textColumn, columns.pairColumn, columns.labelColumn].some((name) => name !== undefined)) return false;
  const lines = new TextDecoder().decode(head).split('\n');
  const first = lines.findIndex((content) => content.trim());
  const fields = fieldsOf(lines[first] ?? '');
  if (fields === undefined || isTableHeader(fields)) return false;
  if (LANGUAGE_FIELDS.some((name) => fields.includes(name))) return true;
  const found = listed(fields, 'an empty object');
  const forms =
    '"text" alone, "prompt" and "completion", "messages", or "prompt", "chosen" and "rejected" for a language model, or columns that you name (--text-column, --label-column)';
  throw errorAt(path, first + 1, `expected "text" and "label", or ${forms}, got ${found}`);
}

/** The field names of a JSON object; undefined for anything else. */
function fieldsOf(content: string): string[] | undefined {
  try {
    const value: unknown = JSON.parse(content);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? Object.keys(value) : undefined;
  } catch {
    return undefined;
  }
}
