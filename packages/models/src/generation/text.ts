import { ConfigError, UnsupportedError } from '@peftjs/core/method';
import type { ChatMessage } from '../chat-template.js';
import type { Tokenizer } from '../tokenizer.js';
import type { Generated, GenerateOptions } from './options.js';

/** How a text is written. */
export interface GenerateTextOptions extends GenerateOptions {
  /** Ends the text where one of these has been written, which then is part of it. */
  readonly stopStrings?: readonly string[];
  /** Told of every piece of text as soon as its last character is whole; waited for. */
  readonly onText?: (piece: string) => void | Promise<void>;
}

/** What a text ends with while bytes of its last character are missing. */
const INCOMPLETE = '\uFFFD';

/**
 * What `write` writes after a text, or as the assistant's next message of a conversation.
 * @throws UnsupportedError without a tokenizer, or for a conversation without a chat template.
 * @throws ConfigError for a text that is longer than the model reads.
 */
export async function writeText(
  write: (prompts: readonly number[][], options: GenerateOptions) => Promise<Generated[]>,
  tokenizer: Tokenizer | undefined,
  prompt: string | readonly ChatMessage[],
  { stopStrings = [], onText, onToken, stoppingCriteria, ...options }: GenerateTextOptions,
): Promise<string> {
  if (!tokenizer) throw new UnsupportedError('the model has no tokenizer: give token ids to `generate`', 'tokenizer');
  const ids = promptIds(tokenizer, prompt);
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

/** The tokens of a prompt. A template writes its own beginning of a conversation. */
function promptIds(tokenizer: Tokenizer, prompt: string | readonly ChatMessage[]): number[] {
  if (typeof prompt !== 'string') {
    const { chatTemplate } = tokenizer;
    if (chatTemplate) return tokenizer.tokenIds(chatTemplate.render(prompt, { addGenerationPrompt: true }));
    throw new UnsupportedError(
      "the model has no chat template: give the conversation as a text, written as in its training, e.g. by `chatML` of '@peftjs/tasks'",
      'prompt',
    );
  }
  const { ids, truncated } = tokenizer.encode(prompt);
  if (!truncated) return ids;
  throw new ConfigError('generate: the prompt is longer than the model reads; cut its beginning', 'prompts');
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
