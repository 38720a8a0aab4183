/**
 * A model's own chat template, written in Jinja: the text form of a conversation that the model was trained on. A
 * template is an untrusted program from a folder, so it can only read the conversation and the special tokens, and its
 * size, its work and its output are limited.
 */
import { PeftError } from '@peftjs/core';
import { DataError } from '@peftjs/core/method';
import { conversationProblem, type ChatMessage, type ChatTool } from '@peftjs/core/model';
import { Fault, openBudget, Refusal } from './chat/budget.js';
import { fieldsOf, globalsOf } from './chat/globals.js';
import { rendered } from './chat/interpreter.js';
import { tokenized } from './chat/lexer.js';
import type { Jinja, Node } from './chat/syntax.js';
import { fileError, reasonOf } from './json.js';

/** Renders conversations as a model reads them. */
export interface ChatTemplate {
  /** The Jinja template from the model's folder. */
  readonly source: string;
  /** The one for conversations with tools, if it is another. */
  readonly toolSource?: string;
  /**
   * Renders a conversation as text, including its start and end tokens. With `addGenerationPrompt`, the text ends with
   * the opening of the assistant's next message.
   * @throws DataError when the template rejects the conversation, or a message or tool has another form.
   * @throws CheckpointError when the template is broken, too large, or exceeds its limits on work or output.
   */
  readonly render: (messages: readonly ChatMessage[], options: RenderOptions) => string;
}

/** Options of a chat template's `render`. */
export interface RenderOptions {
  /** Whether the text ends with the opening of the assistant's next message. */
  readonly addGenerationPrompt: boolean;
  /** The tools that the assistant may call. Default: none. */
  readonly tools?: readonly ChatTool[] | undefined;
}

/** A conversation that ends with an answer, used to find the text that a template writes after one. */
const ANSWER = 'answer0answer';
const ANSWERED_CHAT: readonly ChatMessage[] = [
  { role: 'user', content: 'question' },
  { role: 'assistant', content: ANSWER },
];

/**
 * Returns the ID of the special token that ends the assistant's message, e.g. `<|im_end|>`: a chat model ends its turn
 * with it. Undefined if the template writes no such token or cannot be rendered.
 */
export function endOfTurnId(
  render: ChatTemplate['render'],
  specialTokens: ReadonlyMap<string, number>,
): number | undefined {
  const after = afterAnswer(render);
  const matches = [...specialTokens]
    .map(([token, id]) => ({ id, length: token.length, at: after.indexOf(token) }))
    .filter(({ at }) => at >= 0);
  return matches.sort((a, b) => a.at - b.at || b.length - a.length)[0]?.id;
}

/** The most characters after an answer that are read: what ends a turn comes at once. */
const AFTER_ANSWER = 1000;

/**
 * Returns the beginning of the text after the assistant's words. Empty for a broken template, which is reported when it
 * is used.
 */
export function afterAnswer(render: ChatTemplate['render']): string {
  try {
    const text = render(ANSWERED_CHAT, { addGenerationPrompt: false });
    const at = text.lastIndexOf(ANSWER);
    return at < 0 ? '' : text.slice(at + ANSWER.length).slice(0, AFTER_ANSWER);
  } catch (error) {
    if (error instanceof PeftError) return '';
    throw error;
  }
}

/** The source of a chat template. */
export interface ChatTemplateSource {
  /** The Jinja template. */
  readonly source: string;
  /** The name of its file, for errors. */
  readonly file: string;
  /** The special tokens, by their names in templates, e.g. `bos_token`. */
  readonly tokens: Readonly<Record<string, string>>;
}

/** The maximum size of a template in characters. The longest in use, with tools in four forms, have about 20,000. */
export const MAX_TEMPLATE = 2 ** 16;

/** Creates a chat template. It is parsed on first use: a model with a broken template can still do other tasks. */
export async function createChatTemplate({ source, file, tokens }: ChatTemplateSource): Promise<ChatTemplate> {
  const jinja = (await import('@huggingface/jinja')) as unknown as Jinja;
  let program: Node<'Program'> | undefined;
  return {
    source,
    render(messages, { addGenerationPrompt, tools }) {
      const problem = conversationProblem(messages, tools);
      if (problem !== undefined) throw new DataError(`chat template: ${problem}`, 'messages');
      try {
        program ??= parsed(jinja, source);
        const budget = openBudget();
        const own = { messages: messages.map(asTransformers), tools: tools ?? null, documents: null };
        const given = fieldsOf({ ...tokens, ...own, add_generation_prompt: addGenerationPrompt });
        return rendered(program, budget, new Map([...Object.entries(globalsOf(budget)), ...given]));
      } catch (cause) {
        const reason = reasonOf(cause instanceof Error ? cause.message : cause);
        if (cause instanceof Refusal) {
          throw new DataError(`the chat template of ${file} rejects the conversation: ${reason}`, file, cause);
        }
        throw fileError(file, `the chat template cannot be rendered: ${reason}`, cause);
      }
    },
  };
}

function parsed(jinja: Jinja, source: string): Node<'Program'> {
  if (source.length <= MAX_TEMPLATE) return jinja.parse(tokenized(source));
  throw new Fault(`expected at most ${MAX_TEMPLATE} characters, got ${source.length}`);
}

/** The names under which a message's reasoning is known. */
const REASONING = ['reasoning_content', 'thinking', 'reasoning'];

/** Prepares a message as transformers does: without empty fields, and with its reasoning under two names. */
function asTransformers(message: ChatMessage): Record<string, unknown> {
  const filled = Object.fromEntries(
    Object.entries(message).filter(([, value]) => value !== null && value !== undefined),
  );
  const reasoning = REASONING.map((name) => filled[name]).find((value) => value !== undefined);
  return reasoning === undefined ? filled : { thinking: reasoning, ...filled, reasoning_content: reasoning };
}
