import { ConfigError, parseOptions, UnsupportedError } from '@peftjs/core/method';
import { aFunction, anything, conversationProblem, type ChatMessage, type ChatTool } from '@peftjs/core/model';
import * as v from 'valibot';
import { afterAnswer, endOfTurnId, type ChatTemplate } from '../chat-template.js';
import { shown } from '../json.js';
import type { Tokenizer } from '../tokenizer.js';
import { generationEntries, type GenerationResult, type GenerateOptions } from './options.js';

/** Options of `generateText`. */
export interface GenerateTextOptions extends GenerateOptions {
  /** Strings that end the text once generated; they are part of it, except special tokens. Default: none. */
  readonly stopStrings?: readonly string[];
  /** Called with every new piece of text once its last character is complete, and awaited. */
  readonly onText?: (piece: string) => unknown;
}

const someTexts = v.array(v.pipe(v.string(), v.minLength(1)));

const textEntries = {
  ...generationEntries,
  stopStrings: v.optional(
    v.custom<readonly string[]>((given) => v.is(someTexts, given), 'a list of texts of at least one character'),
  ),
  onText: v.optional(aFunction),
} satisfies Record<keyof GenerateTextOptions, unknown>;

/** Options of `generateChat`. */
export interface GenerateChatOptions extends GenerateTextOptions {
  /**
   * Renders the conversation, e.g. `chatML` of '@peftjs/tasks' for a model trained with it. Default: the model's chat
   * template.
   */
  readonly template?: ChatTemplate['render'] | undefined;
  /** The tools that the assistant may call. The answer's text has a call in the model's own form. Default: none. */
  readonly tools?: readonly ChatTool[] | undefined;
}

/** The fields of `GenerateChatOptions`. */
export const chatEntries = {
  ...textEntries,
  template: v.optional(aFunction),
  tools: anything,
} satisfies Record<keyof GenerateChatOptions, unknown>;

/** What `generateChat` writes. */
export interface Answer extends ChatMessage {
  readonly role: 'assistant';
  /** The text, up to the end of the turn. */
  readonly content: string;
}

/** The end of a text whose last character still lacks bytes. */
const INCOMPLETE = '\uFFFD';

/** A prompt as token IDs, and the tokenizer that decodes the answer. */
interface TextPrompt {
  readonly tokenizer: Tokenizer;
  readonly ids: readonly number[];
  /** The text that ends an answer where no token does; it is not part of the answer. Default: none. */
  readonly ending?: string;
}

/** Returns the text that `write` generates after a prompt. */
export async function writeText(
  write: (prompts: readonly (readonly number[])[], options: GenerateOptions) => Promise<GenerationResult[]>,
  { tokenizer, ids, ending = '' }: TextPrompt,
  given: GenerateTextOptions,
): Promise<string> {
  parseOptions('generateText', textEntries, given);
  const { stopStrings = [], onText, onToken, stoppingCriteria, ...options } = given;
  const textOf = following(tokenizer, ids);
  const ends = ending ? [...stopStrings, ending] : stopStrings;
  const stopIds = stopStrings.flatMap((end) => tokenizer.specialTokens.get(end) ?? []); // `decode` leaves them out
  const pieces = onText && inPieces(onText);
  const ownIds: number[] = [];
  const [written] = await write([ids], {
    ...options,
    async onToken(token) {
      await onToken?.(token);
      if (!pieces) return;
      ownIds.push(token.id);
      const text = textOf(ownIds);
      if (!text.endsWith(INCOMPLETE)) await pieces.upTo(surelyBefore(text, ending));
    },
    stoppingCriteria(own, number) {
      const text = ends.length > 0 ? textOf(own) : '';
      const isOver = stopIds.includes(own.at(-1) ?? -1) || ends.some((end) => text.includes(end));
      return isOver || (stoppingCriteria?.(own, number) ?? false);
    },
  });
  const text = textBefore(textOf(written?.ids ?? []), ending);
  await pieces?.upTo(text);
  return text;
}

/**
 * Encodes a text as a prompt.
 * @throws UnsupportedError without a tokenizer.
 * @throws ConfigError when the prompt is not a string or longer than the model's maximum.
 */
export function textPrompt(tokenizer: Tokenizer | undefined, text: unknown): TextPrompt {
  if (typeof text !== 'string') {
    const hint = Array.isArray(text) ? 'a list; for the messages of a conversation use generateChat' : shown(text);
    throw new ConfigError(`generateText: expected a text as the prompt, got ${hint}`, 'prompt');
  }
  const known = required(tokenizer);
  const { ids, truncated } = known.encode(text);
  if (!truncated) return { tokenizer: known, ids };
  throw new ConfigError('generate: the prompt is too long for the model; truncate its start', 'prompts');
}

/**
 * Encodes a conversation as a prompt, and finds what ends a turn in the template: a special token, or, where the
 * tokenizer has none, the text itself. The template adds its own start token.
 */
export function chatPrompt(
  tokenizer: Tokenizer | undefined,
  messages: readonly ChatMessage[],
  { template = tokenizer?.chatTemplate?.render, tools }: Pick<GenerateChatOptions, 'template' | 'tools'>,
): TextPrompt & { readonly endOfTurn: readonly number[] } {
  const known = required(tokenizer);
  const problem =
    conversationProblem(messages, tools) ?? (messages.length === 0 ? 'expected messages, got none' : undefined);
  if (problem !== undefined) throw new ConfigError(`generateChat: ${problem}`, 'messages');
  if (!template) {
    throw new UnsupportedError(
      "the model has no chat template: pass the one it was trained with as `template`, e.g. `chatML` of '@peftjs/tasks'",
      'template',
    );
  }
  const endOfTurn = endOfTurnId(template, known.specialTokens);
  return {
    tokenizer: known,
    ids: known.tokenIds(template(messages, { addGenerationPrompt: true, ...(tools && { tools }) })),
    ...(endOfTurn === undefined ? { endOfTurn: [], ending: afterAnswer(template).trim() } : { endOfTurn: [endOfTurn] }),
  };
}

function required(tokenizer: Tokenizer | undefined): Tokenizer {
  if (tokenizer) return tokenizer;
  throw new UnsupportedError('the model has no tokenizer: pass token ids to `generate`', 'tokenizer');
}

/** The text before its ending, or the whole if it has none. */
function textBefore(text: string, ending: string): string {
  return ending === '' ? text : (text.split(ending, 1)[0] as string);
}

/** The part of a growing text that is before its ending, however it grows: its last characters may begin the ending. */
function surelyBefore(text: string, ending: string): string {
  const whole = textBefore(text, ending);
  const begun = Array.from({ length: ending.length }, (_, cut) => ending.slice(0, ending.length - cut));
  return whole.slice(0, whole.length - (begun.find((start) => whole.endsWith(start))?.length ?? 0));
}

/** Reports the new part of a growing text. */
function inPieces(onText: NonNullable<GenerateTextOptions['onText']>): { upTo(text: string): Promise<void> } {
  let sent = 0;
  return {
    async upTo(text) {
      const piece = text.slice(sent);
      sent = text.length;
      if (piece !== '') await onText(piece);
    },
  };
}

/**
 * Returns the text of the tokens after a prompt. Prompt and tokens are decoded together, because some tokenizers drop
 * the blank before the first word of a text.
 */
function following(tokenizer: Tokenizer, prompt: readonly number[]): (ids: readonly number[]) => string {
  const before = tokenizer.decode(prompt).length;
  const textOf = (ids: readonly number[]): string => tokenizer.decode([...prompt, ...ids]).slice(before);
  return (ids) => {
    const text = textOf(ids);
    if (!text.endsWith(INCOMPLETE)) return text;
    for (const bytes of [1, 2, 3]) {
      const whole = textOf(ids.slice(0, Math.max(0, ids.length - bytes)));
      if (whole.endsWith(INCOMPLETE)) continue;
      return text.startsWith(whole) ? text : whole + INCOMPLETE; // ByteFallback spoils whole characters before a cut one
    }
    return text;
  };
}
