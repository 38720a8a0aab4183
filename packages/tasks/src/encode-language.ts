import { ConfigError, DataError, warnOnce } from '@peftjs/core/method';
import { checkPositive, IGNORED } from './encode.js';
import { areChats, type ChatRow, type LanguageSet, type Message, type PromptRow, type TextRow } from './language.js';

/** What turns text into tokens for a model that predicts the next one. */
export interface CausalTokenizer {
  /** Every token of a text: nothing is put around it and nothing is cut. */
  tokenIds(text: string): ArrayLike<number>;
  /** Number of the token that ends a document or an answer; it must be there. */
  readonly eosTokenId?: number | undefined;
  /** Number of the token that a text begins with, for models that have one. */
  readonly bosTokenId?: number | undefined;
  /** Whether texts do begin with it: GPT-2 has one and puts it nowhere. Default true. */
  readonly addBosToken?: boolean | undefined;
  /** How the model reads conversations, where it says so. */
  readonly chatTemplate?: { readonly render: ChatTemplate } | undefined;
}

/** How language becomes rows. */
export interface EncodeLanguageOptions {
  /** Tokens of a row, at most. */
  readonly maxTokens: number;
  /** How a conversation is written. Default: by the tokenizer's chat template; `chatML`, which is said once, where it has none. */
  readonly template?: ChatTemplate | undefined;
}

/**
 * Tokenises a language set. Texts are packed: one after the other, each closed by the end-of-text token, cut into rows of
 * `maxTokens`, of which only the last may be shorter; every token is learnt. Instructions have a row each, of which the
 * completion with its end-of-text token, or what the assistant says, is learnt; a longer row loses its end, and one with nothing
 * left to learn is left out.
 * @throws ConfigError for an impossible `maxTokens` or a tokenizer without end-of-text token; DataError when nothing is left, or for a
 * template that rewrites itself.
 */
export function encodeLanguage(
  set: LanguageSet,
  tokenizer: CausalTokenizer,
  options: EncodeLanguageOptions,
): CausalData {
  const { maxTokens } = options;
  checkPositive('maxTokens', maxTokens);
  if (maxTokens === 1)
    throw new ConfigError('expected maxTokens to be at least 2, a token and the next, got 1', 'maxTokens');
  const marked = { tokenizer, ...marksOf(tokenizer) };
  const template = options.template ?? templateOf(set, tokenizer);
  const rows = isTexts(set.rows)
    ? packed(set.rows, marked, maxTokens)
    : set.rows.map((row) => joined(segmentsOf(row, template, set.name), row, marked));
  const kept = rows.map((row) => shortened(row, maxTokens)).filter(hasTargets);
  if (kept.length === 0) {
    throw new DataError(
      `${set.name}: expected tokens to learn, got none within ${maxTokens} tokens of a row`,
      set.name,
    );
  }
  const [truncated, leftOut] = [countTruncated(kept), rows.length - kept.length];
  return { name: set.name, kind: 'causal-lm', rows: kept, maxTokens, truncated, leftOut };
}

function shortened(row: CausalRow, maxTokens: number): CausalRow {
  const { ids, labels } = row;
  if (ids.length <= maxTokens) return row;
  return { ids: ids.slice(0, maxTokens), labels: labels.slice(0, maxTokens), truncated: true };
}

/** A tokenizer with what it puts around a text. */
interface Marked {
  readonly tokenizer: CausalTokenizer;
  readonly begin: readonly number[];
  readonly end: readonly number[];
}

function marksOf({ eosTokenId, bosTokenId, addBosToken = true }: CausalTokenizer): Omit<Marked, 'tokenizer'> {
  if (eosTokenId === undefined) {
    const missing = 'expected a tokenizer with an end-of-text token, got one without';
    throw new ConfigError(`${missing}; name its eos_token in the model's tokenizer_config.json`, 'eosTokenId');
  }
  return { begin: addBosToken && bosTokenId !== undefined ? [bosTokenId] : [], end: [eosTokenId] };
}

function templateOf(set: LanguageSet, { chatTemplate }: CausalTokenizer): ChatTemplate {
  if (chatTemplate) return chatTemplate.render;
  if (areChats(set)) {
    warnOnce('the model has no chat template of its own: conversations are written as ChatML');
  }
  return chatML;
}

function isTexts(rows: LanguageSet['rows']): rows is readonly TextRow[] {
  return rows[0] !== undefined && 'text' in rows[0];
}

/** Documents one after the other, cut into rows; of what fills no row, a last one is made. */
function packed(documents: readonly TextRow[], { tokenizer, begin, end }: Marked, maxTokens: number): CausalRow[] {
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

function segmentsOf(row: PromptRow | ChatRow, template: ChatTemplate, name: string): Segment[] {
  if ('messages' in row) return chatSegments(row.messages, template, name);
  return [
    { text: row.prompt, learnt: false },
    { text: row.completion, learnt: true },
  ];
}

/**
 * The tokens of segments, each tokenised by itself: what is learnt then follows exactly the tokens that a prompt has where it
 * stands alone. A template writes its own beginning and end of a conversation.
 */
function joined(segments: readonly Segment[], row: PromptRow | ChatRow, { tokenizer, begin, end }: Marked): CausalRow {
  const ids: number[] = [];
  const labels: number[] = [];
  const add = (tokens: readonly number[], learnt: boolean): void => {
    for (const id of tokens) {
      ids.push(id);
      labels.push(learnt ? id : IGNORED);
    }
  };
  const isPrompt = 'prompt' in row;
  if (isPrompt) add(begin, false);
  for (const { text, learnt } of segments) add(Array.from(tokenizer.tokenIds(text)), learnt);
  if (isPrompt) add(end, true);
  return { ids: Int32Array.from(ids), labels: Int32Array.from(labels) };
}

/** Rows of tokens for a model that predicts the next one. */
export interface CausalData {
  readonly name: string;
  readonly kind: 'causal-lm';
  readonly rows: readonly CausalRow[];
  /** No row is longer. */
  readonly maxTokens: number;
  /** Rows among these that were longer and were cut. */
  readonly truncated: number;
  /** Rows without a token to learn, which are left out: those cut too early, and a last token of packed texts. */
  readonly leftOut: number;
}

/** The tokens of a row, and at the same places those that are to be predicted: a token, or -100. */
export interface CausalRow {
  readonly ids: Int32Array;
  readonly labels: Int32Array;
  /** Set where it was longer and lost its end. */
  readonly truncated?: true;
}

/** How many rows were cut. */
export function countTruncated(rows: readonly CausalRow[]): number {
  return rows.filter(({ truncated }) => truncated).length;
}

/** Whether there is a token to predict: the first one of a row has nothing before it. */
function hasTargets({ labels }: CausalRow): boolean {
  return labels.subarray(1).some((label) => label >= 0);
}

/**
 * Writes a conversation as a model reads it, up to the words that open the assistant's next message where `addGenerationPrompt` is
 * set. What a conversation begins with must not change as it goes on.
 */
export type ChatTemplate = (messages: readonly Message[], options: { readonly addGenerationPrompt: boolean }) => string;

/** A piece of a text, and whether it is to be learnt. */
interface Segment {
  readonly text: string;
  readonly learnt: boolean;
}

/** ChatML: each message between `<|im_start|>` with its role and `<|im_end|>`. */
export const chatML: ChatTemplate = (messages, { addGenerationPrompt }) => {
  const written = messages.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join('');
  return addGenerationPrompt ? `${written}<|im_start|>assistant\n` : written;
};

/**
 * A conversation cut where the assistant begins and ends to speak: its messages are learnt, with what closes them.
 * @throws DataError for a template that rewrites the beginning of a conversation.
 */
function chatSegments(messages: readonly Message[], template: ChatTemplate, name: string): Segment[] {
  const segments: Segment[] = [];
  let written = '';
  const add = (upTo: string, learnt: boolean): void => {
    if (!upTo.startsWith(written)) throw rewritten(name, written);
    segments.push({ text: upTo.slice(written.length), learnt });
    written = upTo;
  };
  messages.forEach(({ role }, index) => {
    if (role !== 'assistant') return;
    add(template(messages.slice(0, index), { addGenerationPrompt: true }), false);
    add(template(messages.slice(0, index + 1), { addGenerationPrompt: false }), true);
  });
  return segments;
}

function rewritten(name: string, written: string): DataError {
  const shown = JSON.stringify(written.slice(-60));
  const rule = 'expected the chat template to keep what it wrote as a conversation goes on';
  return new DataError(`${name}: ${rule}, but what ended in ${shown} changed; use another template`, name);
}
