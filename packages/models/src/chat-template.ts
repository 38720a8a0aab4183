/**
 * A model's own chat template, written in Jinja: the text form of a conversation that the model was trained on. A
 * template is an untrusted program from a folder, so it can only read the conversation and the special tokens, and its
 * size, its work and its output are limited.
 */
import { PeftError } from '@peftjs/core';
import { CheckpointError, DataError } from '@peftjs/core/method';
import { reasonOf } from './json.js';

/** One message of a conversation. */
export interface ChatMessage {
  /** Usually 'system', 'user', 'assistant' or 'tool': the template decides which roles exist. */
  readonly role: string;
  /** The text of the message. */
  readonly content: string;
}

/** Renders conversations as a model reads them. */
export interface ChatTemplate {
  /** The Jinja template from the model's folder. */
  readonly source: string;
  /**
   * Renders a conversation as text, including its start and end tokens. With `addGenerationPrompt`, the text ends with
   * the opening of the assistant's next message.
   * @throws DataError when the template rejects the conversation.
   * @throws CheckpointError when the template is broken, too large, or exceeds its limits on work or output.
   */
  readonly render: (messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }) => string;
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

/** Returns the text after the assistant's words. Empty for a broken template, which is reported when it is used. */
function afterAnswer(render: ChatTemplate['render']): string {
  try {
    const text = render(ANSWERED_CHAT, { addGenerationPrompt: false });
    const at = text.lastIndexOf(ANSWER);
    return at < 0 ? '' : text.slice(at + ANSWER.length);
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
/**
 * The maximum work of a template, about half a second. Each expression counts 1, plus 1 per item or 256 characters of
 * its result.
 */
const MAX_WORK = 200_000;
const CHARACTERS_OF_WORK = 256;
/** The maximum length of one string, in characters. */
const MAX_CHARACTERS = 2 ** 22;
const MAX_RANGE = 100_000;

/** A value in a running template. */
interface Value {
  readonly value: unknown;
}

interface Scope {
  set(name: string, value: unknown): unknown;
}

/** Declared here because the package's own types import files without extensions, which NodeNext does not resolve. */
interface Jinja {
  readonly Environment: new () => Scope;
  readonly Interpreter: new (scope: Scope) => {
    evaluate(node: unknown, scope: unknown): Value;
    run(program: unknown): Value;
  };
  tokenize(template: string, options: { readonly lstrip_blocks: boolean; readonly trim_blocks: boolean }): unknown[];
  parse(tokens: unknown[]): unknown;
}

/** Thrown by a template's `raise_exception`. */
class Refusal extends Error {}

/** Thrown when a template exceeds its limits. */
class Fault extends Error {}

/** Creates a chat template. It is parsed on first use: a model with a broken template can still do other tasks. */
export async function createChatTemplate({ source, file, tokens }: ChatTemplateSource): Promise<ChatTemplate> {
  const jinja = (await import('@huggingface/jinja')) as unknown as Jinja;
  let program: unknown;
  return {
    source,
    render(messages, { addGenerationPrompt }) {
      try {
        program ??= parsed(jinja, source);
        return rendered(jinja, program, {
          ...tokens,
          messages: messages.map(({ role, content }) => ({ role, content })),
          add_generation_prompt: addGenerationPrompt,
          tools: null,
          documents: null,
        });
      } catch (cause) {
        const reason = reasonOf(cause instanceof Error ? cause.message : cause);
        if (cause instanceof Refusal) {
          throw new DataError(`the chat template of ${file} rejects the conversation: ${reason}`, file, cause);
        }
        throw new CheckpointError(`${file}: the chat template cannot be rendered: ${reason}`, file, cause);
      }
    },
  };
}

function parsed(jinja: Jinja, source: string): unknown {
  if (source.length > MAX_TEMPLATE) {
    throw new Fault(`expected at most ${MAX_TEMPLATE} characters, got ${source.length}`);
  }
  return jinja.parse(jinja.tokenize(source, { lstrip_blocks: true, trim_blocks: true })); // as in transformers
}

function rendered({ Environment, Interpreter }: Jinja, program: unknown, variables: Record<string, unknown>): string {
  const scope = new Environment();
  for (const [name, value] of Object.entries({ ...GLOBALS, ...variables })) scope.set(name, value);
  const interpreter = new Interpreter(scope);
  const evaluate = interpreter.evaluate.bind(interpreter);
  let work = 0;
  interpreter.evaluate = (node, inner) => {
    const result = evaluate(node, inner);
    work += 1 + workOf(result);
    if (work > MAX_WORK) throw new Fault('it runs too long');
    return result;
  };
  return String(interpreter.run(program).value);
}

/** Returns the work that a result counts, on top of its expression. */
function workOf({ value }: Value): number {
  if (Array.isArray(value)) return value.length;
  if (typeof value !== 'string') return 0;
  if (value.length > MAX_CHARACTERS) throw new Fault(`it writes more than ${MAX_CHARACTERS} characters`);
  return value.length / CHARACTERS_OF_WORK;
}

/** The globals that Jinja and transformers provide. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range,
  raise_exception: (message: unknown) => {
    throw new Refusal(String(message));
  },
  strftime_now: fixedDate,
};

function range(...limits: readonly unknown[]): number[] {
  const numbers = limits.filter((limit) => typeof limit === 'number');
  const [start, stop] = numbers.length > 1 ? (numbers as [number, number]) : [0, numbers[0] ?? 0];
  const step = numbers[2] ?? 1;
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Fault(`its range exceeds ${MAX_RANGE}`);
  return Array.from({ length }, (_, index) => start + index * step);
}

/** 26 July 2024, the fallback date of templates. Today's date would make runs irreproducible. */
const DATE: Readonly<Record<string, string>> = {
  d: '26',
  m: '07',
  b: 'Jul',
  B: 'July',
  y: '24',
  Y: '2024',
  a: 'Fri',
  A: 'Friday',
  j: '208',
  H: '00',
  I: '12',
  M: '00',
  S: '00',
  p: 'AM',
};

function fixedDate(format: unknown): string {
  return String(format).replace(/%-?([A-Za-z])/g, (all, letter: string) => DATE[letter] ?? all);
}
