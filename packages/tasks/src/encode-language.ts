import { PeftError } from '@peftjs/core';
import { ConfigError, DataError, integerFrom, parseOptions, warnOnce } from '@peftjs/core/method';
import {
  aFunction,
  aRecord,
  assertArgument,
  conversationProblem,
  objectLike,
  type ChatMessage,
  type ChatTool,
} from '@peftjs/core/model';
import * as v from 'valibot';
import { IGNORED } from './encode.js';
import {
  aLanguageSet,
  isChatSet,
  isPreferenceSet,
  isTextSet,
  type ChatRow,
  type LanguageSet,
  type LanguageTask,
  type Message,
  type PreferenceRow,
  type PromptRow,
  type TextRow,
} from './language.js';

/** A tokenizer of a causal language model. */
export interface CausalTokenizer {
  /** Returns all tokens of a text, without special tokens and without truncation. */
  tokenIds(text: string): ArrayLike<number>;
  /** The id of the token that ends a document or an answer; required. */
  readonly eosTokenId?: number | undefined;
  /** The id of the token that a text begins with, for models that have one. */
  readonly bosTokenId?: number | undefined;
  /** Whether texts do begin with `bosTokenId`: GPT-2 has the token but does not use it. Default true. */
  readonly addBosToken?: boolean | undefined;
  /** The model's chat template, if it has one. */
  readonly chatTemplate?: { readonly render: ChatTemplate } | undefined;
}

const aCausalTokenizer = objectLike<CausalTokenizer>("a tokenizer with tokenIds, e.g. a causal language model's", {
  tokenIds: 'function',
});

/** Options of {@link encodeLanguage}. */
export interface EncodeLanguageOptions {
  /** The most tokens in a row, at least 2. */
  readonly maxTokens: number;
  /**
   * How to write a conversation. Default: the tokenizer's chat template, or, with a warning, `chatML` if it has none.
   */
  readonly template?: ChatTemplate | undefined;
}

/**
 * Tokenises a language set. Texts are packed: they are concatenated, each after the beginning-of-text token, if the
 * tokenizer adds one, and before the end-of-text token, and cut into rows of `maxTokens`; only the last row may be
 * shorter, and every token is learnt. Instructions get one row each; only the completion with its end-of-text token, or
 * the assistant's messages, are learnt. A longer row is truncated at its end; a row without tokens to learn is left
 * out.
 * @throws ConfigError for an impossible `maxTokens` or a tokenizer without end-of-text token; DataError for
 * preferences, when no row is left, or when the chat template changes what it wrote before.
 */
export function encodeLanguage(
  set: LanguageSet,
  tokenizer: CausalTokenizer,
  options: EncodeLanguageOptions,
): CausalData {
  const { marked, template } = encoding('encodeLanguage', set, tokenizer, options);
  const { maxTokens } = marked;
  if (isPreferenceSet(set)) {
    throw new DataError(`${set.name} holds preferences: encode them by encodePreferences`, set.name);
  }
  const rows = isTextSet(set)
    ? packed(set.rows, marked)
    : eachRow(set.rows as readonly (PromptRow | ChatRow)[], set.name, (row) => encodedRow(row, marked, template));
  const kept = rows.map((row) => shortened(row, maxTokens)).filter(hasTargets);
  return { kind: 'causal-lm', ...describedRows(set, rows, kept, maxTokens) };
}

/**
 * Tokenises preferences: each answer after its prompt, as `encodeLanguage` does. Only the answers are learnt, of a
 * conversation the assistant's messages in them. A longer answer is truncated at its end; a row in which an answer has
 * no tokens to learn is left out.
 * @throws ConfigError for an impossible `maxTokens` or a tokenizer without end-of-text token; DataError for other rows,
 * when no row is left, or when the chat template changes what it wrote before.
 */
export function encodePreferences(
  set: LanguageSet,
  tokenizer: CausalTokenizer,
  options: EncodeLanguageOptions,
): PreferenceData {
  const { marked, template } = encoding('encodePreferences', set, tokenizer, options);
  const { maxTokens } = marked;
  if (!isPreferenceSet(set)) {
    throw new DataError(`${set.name}: expected rows with prompt, chosen and rejected`, set.name);
  }
  const answer = (row: PreferenceRow, name: 'chosen' | 'rejected'): CausalRow =>
    shortened(encodedAnswer(row, row[name], marked, template), maxTokens);
  const rows = eachRow(set.rows, set.name, (row) => ({
    texts: [answer(row, 'chosen'), answer(row, 'rejected')] as const,
  }));
  const kept = rows.filter(({ texts }) => texts.every(hasTargets));
  return { kind: 'preferences', ...describedRows(set, rows, kept, maxTokens) };
}

/** Encodes each row. @throws DataError with the row's number, e.g. for a conversation that the template rejects. */
function eachRow<R, E>(rows: readonly R[], name: string, encode: (row: R) => E): E[] {
  return rows.map((row, index) => {
    try {
      return encode(row);
    } catch (cause) {
      if (!(cause instanceof PeftError)) throw cause;
      throw new DataError(`${name}, row ${index + 1}: ${cause.message}`, name, cause);
    }
  });
}

/** Checks what rows are encoded with. */
function encoding(name: string, set: LanguageSet, tokenizer: CausalTokenizer, options: EncodeLanguageOptions) {
  assertArgument('set', set, aLanguageSet);
  assertArgument('tokenizer', tokenizer, aCausalTokenizer);
  parseOptions(name, { maxTokens: integerFrom(1), template: v.optional(aFunction) }, options);
  const { maxTokens } = options;
  if (maxTokens === 1)
    throw new ConfigError('expected maxTokens to be at least 2, a token and the next, got 1', 'maxTokens');
  const marked: Marked = { tokenizer, ...marksOf(tokenizer), isMarking: marksBeginning(tokenizer), maxTokens };
  return { marked, template: options.template ?? templateOf(set, tokenizer) };
}

/** @throws DataError when no row is left. */
function describedRows<R extends CausalRow | EncodedPreferenceRow>(
  set: LanguageSet,
  rows: readonly R[],
  kept: readonly R[],
  maxTokens: number,
) {
  const { name } = set;
  if (kept.length === 0) {
    throw new DataError(`${name}: expected tokens to learn, got none within ${maxTokens} tokens of a row`, name);
  }
  const counts = { truncated: countTruncated(kept), dropped: rows.length - kept.length };
  return { name, rows: kept, maxTokens, ...counts, ...(isChatSet(set) && { isChat: true }) };
}

function shortened(row: CausalRow, maxTokens: number): CausalRow {
  const { ids, labels } = row;
  if (ids.length <= maxTokens) return row;
  return { ids: ids.slice(0, maxTokens), labels: labels.slice(0, maxTokens), truncated: true };
}

/** A tokenizer with the tokens before and after a text. */
interface Marked {
  readonly tokenizer: CausalTokenizer;
  readonly begin: readonly number[];
  readonly end: readonly number[];
  /** See `marksBeginning`. */
  readonly isMarking: boolean;
  readonly maxTokens: number;
}

function marksOf({ eosTokenId, bosTokenId, addBosToken = true }: CausalTokenizer): Pick<Marked, 'begin' | 'end'> {
  if (eosTokenId === undefined) {
    const missing = 'expected a tokenizer with an end-of-text token, got one without';
    throw new ConfigError(`${missing}; name its eos_token in the model's tokenizer_config.json`, 'eosTokenId');
  }
  return { begin: addBosToken && bosTokenId !== undefined ? [bosTokenId] : [], end: [eosTokenId] };
}

function templateOf(set: LanguageSet, { chatTemplate }: CausalTokenizer): ChatTemplate {
  if (chatTemplate) return chatTemplate.render;
  if (isChatSet(set)) {
    warnOnce('the model has no chat template of its own: conversations are written as ChatML');
  }
  return chatML;
}

/** Whether a text has another first token than within a longer one: Llama 2's tokenizer puts the mark of a word there. */
function marksBeginning(tokenizer: CausalTokenizer): boolean {
  const [whole, ...parts] = ['\na', '\n', 'a'].map((text) => Array.from(tokenizer.tokenIds(text)));
  return whole?.join() !== parts.flat().join();
}

/** Concatenates documents and cuts them into rows; the last row may be shorter. */
function packed(documents: readonly TextRow[], { tokenizer, begin, end, maxTokens }: Marked): CausalRow[] {
  const rows: CausalRow[] = [];
  let row = new Int32Array(maxTokens);
  let filled = 0;
  const add = (id: number): void => {
    row[filled++] = id;
    if (filled < maxTokens) return;
    rows.push({ ids: row, labels: row });
    row = new Int32Array(maxTokens);
    filled = 0;
  };
  for (const { text } of documents) {
    begin.forEach(add);
    const ids = tokenizer.tokenIds(text);
    for (let at = 0; at < ids.length; at++) add(ids[at] as number);
    end.forEach(add);
  }
  const rest = row.slice(0, filled);
  return filled === 0 ? rows : [...rows, { ids: rest, labels: rest }];
}

function encodedRow(row: PromptRow | ChatRow, marked: Marked, template: ChatTemplate): CausalRow {
  return 'messages' in row
    ? ofSegments(chatSegments(row, template), marked)
    : encodedCompletion(row.prompt, row.completion, marked);
}

/** Encodes one of the answers of a row of preferences. */
function encodedAnswer(
  { prompt, tools }: PreferenceRow,
  answer: PreferenceRow['chosen'],
  marked: Marked,
  template: ChatTemplate,
): CausalRow {
  if (typeof prompt === 'string') return encodedCompletion(prompt, answer as string, marked);
  const row = { messages: [...prompt, ...(answer as readonly Message[])], ...(tools && { tools }) };
  return ofSegments(chatSegments(row, template, prompt.length), marked);
}

function encodedCompletion(prompt: string, completion: string, { tokenizer, begin, end }: Marked): CausalRow {
  const tokens = (text: string): number[] => Array.from(tokenizer.tokenIds(text));
  return joined([
    { own: [...begin, ...tokens(prompt)], learnt: false },
    { own: [...tokens(completion), ...end], learnt: true },
  ]);
}

/**
 * Tokenises each segment by itself, so that a prompt has the same tokens here as alone, before the tokens to learn. A
 * tokenizer that marks the beginning of a text reads the conversation at once, as it has one beginning; a token across
 * an edge then belongs to the later segment, and edges beyond `maxTokens`, which truncation removes, are not looked for.
 * A chat template writes the beginning and the end of a conversation itself.
 */
function ofSegments(segments: readonly Segment[], { tokenizer, isMarking, maxTokens }: Marked): CausalRow {
  const tokens = (text: string): number[] => Array.from(tokenizer.tokenIds(text));
  if (!isMarking) return joined(segments.map(({ text, learnt }) => ({ own: tokens(text), learnt })));
  const whole = segments.map(({ text }) => text).join('');
  const all = tokens(whole);
  let [written, end] = ['', 0];
  return joined(
    segments.map(({ text, learnt }) => {
      const start = end;
      written += text;
      const upTo = written === whole || end >= maxTokens ? all : tokens(written);
      while (end < upTo.length && upTo[end] === all[end]) end++;
      return { own: all.slice(start, end), learnt };
    }),
  );
}

function joined(segments: readonly { readonly own: readonly number[]; readonly learnt: boolean }[]): CausalRow {
  const labels = segments.flatMap(({ own, learnt }) => (learnt ? own : own.map(() => IGNORED)));
  return { ids: Int32Array.from(segments.flatMap(({ own }) => own)), labels: Int32Array.from(labels) };
}

/** Rows of tokens for a causal language model. */
interface LanguageData<K extends LanguageTask['kind'], R> extends Pick<LanguageSet, 'name'> {
  /** The kind of data. */
  readonly kind: K;
  /** The rows. */
  readonly rows: readonly R[];
  /** Set if the rows are conversations. */
  readonly isChat?: boolean;
  /** The most tokens in a text. */
  readonly maxTokens: number;
  /** The number of these rows that were truncated. */
  readonly truncated: number;
  /**
   * The number of rows that were left out, as they have no token to learn: rows truncated too early, and a single last
   * token of packed texts.
   */
  readonly dropped: number;
}

/** Texts and instructions as rows of tokens. */
export type CausalData = LanguageData<'causal-lm', CausalRow>;

/** Preferences as rows of tokens. */
export type PreferenceData = LanguageData<'preferences', EncodedPreferenceRow>;

/** The tokens of a row, and the tokens to predict at the same positions. */
export interface CausalRow {
  /** The token ids. */
  readonly ids: Int32Array;
  /** The token id at each position to learn, -100 elsewhere. */
  readonly labels: Int32Array;
  /** Set if the row lost its end. */
  readonly truncated?: true;
}

/** The tokens of two answers, each after its prompt. */
export interface EncodedPreferenceRow {
  /** The chosen and the rejected one. */
  readonly texts: readonly [CausalRow, CausalRow];
}

/** The number of truncated rows. */
export function countTruncated(rows: readonly (CausalRow | EncodedPreferenceRow)[]): number {
  return rows.filter((row) => ('texts' in row ? row.texts : [row]).some(({ truncated }) => truncated)).length;
}

/** Whether there is a token to predict; the first token of a row has nothing before it. */
function hasTargets({ labels }: CausalRow): boolean {
  return labels.subarray(1).some((label) => label >= 0);
}

/**
 * Writes a conversation in the model's format. With `addGenerationPrompt`, the text ends with the words that open the
 * assistant's next message. Adding messages must not change the text of earlier ones.
 */
export type ChatTemplate = (
  messages: readonly Message[],
  options: { readonly addGenerationPrompt: boolean; readonly tools?: readonly ChatTool[] | undefined },
) => string;

/** A piece of a text, and whether it is learnt. */
interface Segment {
  readonly text: string;
  readonly learnt: boolean;
}

/**
 * ChatML: each message is written between `<|im_start|>`, followed by its role, and `<|im_end|>`. It has no form for
 * tools.
 * @throws DataError for a conversation with tools or tool calls, and for anything else than messages.
 */
export function chatML(messages: readonly ChatMessage[], options: Parameters<ChatTemplate>[1]): string {
  assertArgument('options', options, aRecord);
  const problem = conversationProblem(messages);
  if (problem !== undefined) throw new DataError(`ChatML: ${problem}`, 'messages');
  const { addGenerationPrompt, tools } = { ...options };
  const calling = messages.find(({ tool_calls: calls }) => calls && calls.length > 0);
  if (calling || (tools && tools.length > 0)) {
    const found = calling ? "a message with 'tool_calls'" : "'tools'";
    throw new DataError(`ChatML has no form for tools, got ${found}; use a model with a chat template`, 'messages');
  }
  const written = messages.map(({ role, content }) => `<|im_start|>${role}\n${content ?? ''}<|im_end|>\n`).join('');
  return addGenerationPrompt ? `${written}<|im_start|>assistant\n` : written;
}

/**
 * Splits a conversation where the assistant's messages begin and end; these messages are learnt, including the text
 * that closes them.
 * @param from the first message that may be learnt
 * @throws DataError for a template that changes the text of earlier messages.
 */
function chatSegments({ messages, tools }: ChatRow, template: ChatTemplate, from = 0): Segment[] {
  const segments: Segment[] = [];
  let written = '';
  const add = (upTo: string, learnt: boolean): void => {
    if (!upTo.startsWith(written)) {
      const shown = JSON.stringify(written.slice(-60));
      const rule = 'expected the chat template to keep earlier text as a conversation grows';
      throw new DataError(`${rule}, but the text ending in ${shown} changed; use another template`);
    }
    segments.push({ text: upTo.slice(written.length), learnt });
    written = upTo;
  };
  messages.forEach((message, index) => {
    if (message.role !== 'assistant') return;
    const write = (all: readonly Message[], addGenerationPrompt: boolean): string =>
      template(all, { addGenerationPrompt, ...(tools && { tools }) });
    const answered = write(messages.slice(0, index + 1), false);
    const opened =
      index > 0
        ? write(messages.slice(0, index), true)
        : beforeWords(write([{ ...message, content: WORDS }], false), answered);
    add(opened, false);
    add(answered, index >= from);
  });
  return segments;
}

/** Words that no template writes by itself. */
const WORDS = 'answer0answer';

/** The text before the words of the only message. Most templates read the first message, so they cannot write none. */
function beforeWords(text: string, answered: string): string {
  const at = text.indexOf(WORDS);
  return at < 0 ? answered : text.slice(0, at);
}
