import { ConfigError, DataError, describe, parseOptions } from '@peftjs/core/method';
import { openGenerator, type ChatMessage, type GenerateChatOptions, type TextGenerator } from '@peftjs/models';
import * as v from 'valibot';
import { callOptions } from './call-options.js';
import { chosenAdapters, type CallOptions, type Inference } from './inference.js';

/** How texts are written; what else can be set is described at `generateText` and `generateChat` of @peftjs/models. */
export interface TextGenerationOptions extends CallOptions, Omit<GenerateChatOptions, 'onToken' | 'stoppingCriteria'> {
  /** Tokens to write, at most. Default 256. */
  readonly maxNewTokens?: number;
  /** Whether `generated_text` begins with the prompt. A conversation always does. Default true. */
  readonly returnFullText?: boolean;
}

/** What was written after a text. */
export interface GeneratedText {
  readonly generated_text: string;
}

/** A conversation with the assistant's next message at its end. */
export interface GeneratedTurn {
  readonly generated_text: readonly ChatMessage[];
}

/** Goes on with texts and conversations. */
export interface TextGenerationPipeline {
  /** A text goes on. */
  (text: string, options?: TextGenerationOptions): Promise<[GeneratedText]>;
  /** The assistant answers, and stops at the end of its turn. */
  (messages: readonly ChatMessage[], options?: TextGenerationOptions): Promise<[GeneratedTurn]>;
  /** Each text goes on, one after the other. */
  (texts: readonly string[], options?: TextGenerationOptions): Promise<[GeneratedText][]>;
  /** Each conversation is answered, one after the other. */
  (conversations: readonly (readonly ChatMessage[])[], options?: TextGenerationOptions): Promise<[GeneratedTurn][]>;
  /** Gives up what is held of the model, once running calls have ended. */
  dispose(): Promise<void>;
}

const OF_GENERATION = [
  'maxNewTokens',
  'doSample',
  'temperature',
  'topK',
  'topP',
  'repetitionPenalty',
  'seed',
  'eosTokenId',
  'signal',
  'stopStrings',
  'onText',
  'template',
];
const OPTIONS = [...OF_GENERATION, 'returnFullText', 'adapter'];

const settings = { returnFullText: v.optional(v.boolean(), true) };

/** As transformers.js has it. */
const MAX_NEW_TOKENS = 256;

type Prompt = string | readonly ChatMessage[];

/** Goes on with one prompt or several. */
export async function write(inference: Inference, input: unknown, options: unknown): Promise<unknown> {
  const { adapter, returnFullText, ...given } = callOptions(inference.task, options, OPTIONS);
  const { returnFullText: isFull } = parseOptions(inference.task, settings, { returnFullText });
  const { prompts, isOne } = promptsIn(input);
  const choice = chosenAdapters(inference, adapter, prompts.length);
  const writing = { maxNewTokens: MAX_NEW_TOKENS, ...given } as GenerateChatOptions;
  const results: unknown[] = [];
  for (const [place, prompt] of prompts.entries()) {
    const model = inference.model(typeof choice === 'object' ? choice[place] : choice);
    const generator = openGenerator(model, inference); // takes the adapters as they are now
    try {
      results.push([{ generated_text: await written(generator, prompt, writing, isFull) }]);
    } finally {
      await generator.dispose();
    }
  }
  return isOne ? results[0] : results;
}

async function written(
  generator: TextGenerator,
  prompt: Prompt,
  settings: GenerateChatOptions,
  isFull: boolean,
): Promise<Prompt> {
  if (typeof prompt !== 'string') return [...prompt, await generator.generateChat(prompt, settings)];
  if (settings.template !== undefined) {
    throw new ConfigError("text-generation: option 'template' is for conversations, got a text", 'template');
  }
  const text = await generator.generateText(prompt, settings);
  return isFull ? prompt + text : text;
}

/**
 * The prompts of a call, and whether one was given alone.
 * @throws DataError for what is neither text nor conversation, naming its place.
 */
function promptsIn(input: unknown): { readonly prompts: readonly Prompt[]; readonly isOne: boolean } {
  const isOne = !Array.isArray(input) || isConversation(input);
  const prompts: readonly unknown[] = isOne ? [input] : input;
  const place = prompts.findIndex((prompt) => !(isText(prompt) || isConversation(prompt)));
  if (place < 0) return { prompts: prompts as readonly Prompt[], isOne };
  const odd = prompts[place];
  throw new DataError(
    `text-generation: expected a text, or a list of messages like { role: "user", content: ".." }, got ${odd === '' ? 'an empty text' : describe(odd)} in place ${place + 1}`,
    'prompt',
  );
}

function isText(prompt: unknown): boolean {
  return typeof prompt === 'string' && prompt !== '';
}

function isConversation(prompt: unknown): boolean {
  return (
    Array.isArray(prompt) &&
    prompt.length > 0 &&
    prompt.every((message: unknown) => typeof message === 'object' && message !== null && 'role' in message)
  );
}
