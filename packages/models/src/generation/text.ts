import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import { endOfTurnId, type ChatMessage, type ChatTemplate } from '../chat-template.js';
import { field, shown } from '../json.js';
import type { Tokenizer } from '../tokenizer.js';
import type { Generated, GenerateOptions } from './options.js';

/** How a text is written. */
export interface GenerateTextOptions extends GenerateOptions {
  /** Ends the text where one of these has been written, which then is part of it. */
  readonly stopStrings?: readonly string[];
  /** Told of every piece of text as soon as its last character is whole; waited for. */
  readonly onText?: (piece: string) => unknown;
}

/** How the assistant's next message is written. */
export interface GenerateChatOptions extends GenerateTextOptions {
  /** Writes the conversation, e.g. `chatML` of '@peftjs/tasks' for a model trained with it. Default: the model's chat template. */
  readonly template?: ChatTemplate['render'];
}

/** What a text ends with while bytes of its last character are missing. */
const INCOMPLETE = '\uFFFD';

/** A prompt in tokens, and what turns tokens back into text. */
interface TextPrompt {
  readonly tokenizer: Tokenizer;
  readonly ids: readonly number[];
}

/** What `write` writes after a prompt. */
export async function writeText(
  write: (prompts: readonly (readonly number[])[], options: GenerateOptions) => Promise<Generated[]>,
  { tokenizer, ids }: TextPrompt,
  { stopStrings = [], onText, onToken, stoppingCriteria, ...options }: GenerateTextOptions,
): Promise<string> {
  const textOf = following(tokenizer, ids);
  const pieces = onText && inPieces(onText);
  const ownIds: number[] = [];
  const [written] = await write([ids], {
    ...options,
    async onToken(token) {
      await onToken?.(token);
      if (!pieces) return;
      ownIds.push(token.id);
      const text = textOf(ownIds);
      if (!text.endsWith(INCOMPLETE)) await pieces.upTo(text);
    },
    stoppingCriteria: (own, number) =>
      stopStrings.some((end) => textOf(own).includes(end)) || (stoppingCriteria?.(own, number) ?? false),
  });
  const text = textOf(written?.ids ?? []);
  await pieces?.upTo(text);
  return text;
}

/**
 * A text as a prompt.
 * @throws UnsupportedError without a tokenizer.
 * @throws ConfigError for what is no text, and for one that is longer than the model reads.
 */
export function textPrompt(tokenizer: Tokenizer | undefined, text: unknown): TextPrompt {
  if (typeof text !== 'string') {
    const hint = Array.isArray(text) ? 'a list; for the messages of a conversation use generateChat' : shown(text);
    throw new ConfigError(`generateText: expected a text as the prompt, got ${hint}`, 'prompt');
  }
  const known = required(tokenizer);
  const { ids, truncated } = known.encode(text);
  if (!truncated) return { tokenizer: known, ids };
  throw new ConfigError('generate: the prompt is longer than the model reads; cut its beginning', 'prompts');
}

/** A conversation as a prompt, and the token that closes a turn, where `template` has one. A template writes its own beginning. */
export function chatPrompt(
  tokenizer: Tokenizer | undefined,
  messages: unknown,
  template = tokenizer?.chatTemplate?.render,
): TextPrompt & { readonly endOfTurn: readonly number[] } {
  const known = required(tokenizer);
  if (!isConversation(messages)) {
    const rule = 'expected a list of messages like { role: "user", content: "Who was it?" }';
    throw new ConfigError(`generateChat: ${rule}, got ${shown(messages)}`, 'messages');
  }
  if (!template) {
    throw new UnsupportedError(
      "the model has no chat template: give the one that it was trained with as `template`, e.g. `chatML` of '@peftjs/tasks'",
      'template',
    );
  }
  const endOfTurn = endOfTurnId(template, known.specialTokens);
  return {
    tokenizer: known,
    ids: known.tokenIds(template(messages, { addGenerationPrompt: true })),
    endOfTurn: endOfTurn === undefined ? [] : [endOfTurn],
  };
}

function required(tokenizer: Tokenizer | undefined): Tokenizer {
  if (tokenizer) return tokenizer;
  throw new UnsupportedError('the model has no tokenizer: give token ids to `generate`', 'tokenizer');
}

function isConversation(messages: unknown): messages is readonly ChatMessage[] {
  const isMessage = (one: unknown): boolean =>
    typeof field(one, 'role') === 'string' && typeof field(one, 'content') === 'string';
  return Array.isArray(messages) && messages.length > 0 && messages.every(isMessage);
}

/** Tells of a text as it grows. */
function inPieces(onText: NonNullable<GenerateTextOptions['onText']>): { upTo(text: string): Promise<void> } {
  let told = 0;
  return {
    async upTo(text) {
      const piece = text.slice(told);
      told = text.length;
      if (piece !== '') await onText(piece);
    },
  };
}

/**
 * The text of tokens after a prompt's: that of both less the prompt's, since some tokenizers take the blank from the first word of a
 * text.
 */
function following(tokenizer: Tokenizer, prompt: readonly number[]): (ids: readonly number[]) => string {
  const before = tokenizer.decode(prompt).length;
  return (ids) => tokenizer.decode([...prompt, ...ids]).slice(before);
}
