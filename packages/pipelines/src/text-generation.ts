import { ConfigError, DataError, describe, integerFrom, mapValues } from '@peftjs/core/method';
import { anything } from '@peftjs/core/model';
import {
  chatEntries,
  openGenerator,
  type ChatMessage,
  type GenerateChatOptions,
  type GeneratedToken,
  type TextGenerator,
} from '@peftjs/models';
import * as v from 'valibot';
import { callOptions } from './call-options.js';
import { adapterOf, chosenAdapters, type CallOptions, type Inference } from './inference.js';

/** Options of a text-generation call. See also `generateText` and `generateChat` of @peftjs/models. */
export interface TextGenerationOptions extends CallOptions, GenerateChatOptions {
  /** The maximum number of generated tokens. Default 256. */
  readonly maxNewTokens?: number;
  /** Whether `generated_text` includes the prompt. A conversation always does. Default true. */
  readonly returnFullText?: boolean;
}

/** A generated text. */
export interface GeneratedText {
  /** The text, with or without its prompt. */
  readonly generated_text: string;
}

/** An answered conversation. */
export interface GeneratedTurn {
  /** The conversation, with the assistant's next message at its end. */
  readonly generated_text: readonly ChatMessage[];
}

/** Continues texts and answers conversations. */
export interface TextGenerationPipeline {
  /** Continues a text. */
  (text: string, options?: TextGenerationOptions): Promise<[GeneratedText]>;
  /** Answers a conversation as the assistant, up to the end of its turn. */
  (messages: readonly ChatMessage[], options?: TextGenerationOptions): Promise<[GeneratedTurn]>;
  /** Continues several texts, one after another. */
  (texts: readonly string[], options?: TextGenerationOptions): Promise<[GeneratedText][]>;
  /** Answers several conversations, one after another. */
  (conversations: readonly (readonly ChatMessage[])[], options?: TextGenerationOptions): Promise<[GeneratedTurn][]>;
  /** Frees the model's resources once running calls have ended. */
  dispose(): Promise<void>;
}

/** The default of transformers.js. */
const MAX_NEW_TOKENS = 256;

/** Its own options, and those of `generateChat`, which checks the rest. */
const settings = {
  ...mapValues(chatEntries, () => anything),
  seed: chatEntries.seed,
  maxNewTokens: v.optional(integerFrom(1), MAX_NEW_TOKENS),
  returnFullText: v.optional(v.boolean(), true),
};

type Prompt = string | readonly ChatMessage[];

/** Continues one prompt or several. */
export async function write(inference: Inference, input: unknown, options: unknown): Promise<unknown> {
  const { adapter, returnFullText: isFull, ...given } = callOptions(inference.task, settings, options);
  const { prompts, isOne } = promptsIn(input);
  const choice = chosenAdapters(inference, adapter, prompts.length);
  const writing = given as GenerateChatOptions;
  const results: unknown[] = [];
  for (const [index, prompt] of prompts.entries()) {
    const model = inference.model(adapterOf(choice, index));
    const { executor, tokenizer, templates } = inference;
    const [name = ''] = 'adapters' in model && model.enabled ? model.active : [];
    const { template = templates.get(name)?.render } = writing;
    const numbered = ofPrompt(index, writing);
    const own = typeof prompt === 'string' ? numbered : { ...numbered, template };
    const generator = openGenerator(model, { executor, tokenizer }); // uses the adapters' current values
    try {
      results.push([{ generated_text: await written(generator, prompt, own, isFull) }]);
    } finally {
      await generator.dispose();
    }
  }
  return isOne ? results[0] : results;
}

/** The options for one prompt of several, which is generated alone: equal prompts draw texts of their own. */
function ofPrompt(prompt: number, { seed = 0, ...options }: GenerateChatOptions): GenerateChatOptions {
  const { onToken, stoppingCriteria } = options;
  return {
    ...options,
    seed: seed + prompt,
    ...(onToken && { onToken: (token: GeneratedToken) => onToken({ ...token, prompt }) }),
    ...(stoppingCriteria && { stoppingCriteria: (ids: readonly number[]) => stoppingCriteria(ids, prompt) }),
  };
}

async function written(
  generator: TextGenerator,
  prompt: Prompt,
  settings: GenerateChatOptions,
  isFull: boolean,
): Promise<Prompt> {
  if (typeof prompt !== 'string') return [...prompt, await generator.generateChat(prompt, settings)];
  for (const option of ['template', 'tools'] as const) {
    if (settings[option] === undefined) continue;
    throw new ConfigError(`text-generation: option '${option}' is for conversations, got a text`, option);
  }
  const text = await generator.generateText(prompt, settings);
  return isFull ? prompt + text : text;
}

/**
 * Returns the prompts of a call, and whether a single one was given.
 * @throws DataError for a value that is neither a text nor a conversation, naming its position.
 */
function promptsIn(input: unknown): { readonly prompts: readonly Prompt[]; readonly isOne: boolean } {
  const isOne = !Array.isArray(input) || isConversation(input);
  const prompts: readonly unknown[] = isOne ? [input] : input;
  const index = prompts.findIndex((prompt) => !(isText(prompt) || isConversation(prompt)));
  if (index < 0) return { prompts: prompts as readonly Prompt[], isOne };
  const odd = prompts[index];
  throw new DataError(
    `text-generation: expected a text, or a list of messages like { role: "user", content: ".." }, got ${odd === '' ? 'an empty text' : describe(odd)} at position ${index + 1}`,
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
