/**
 * A model's own chat template: how it reads a conversation, written in Jinja by whoever trained it. It is a program from a folder, and
 * no more trusted than one: it reaches nothing but the conversation and the names of the special tokens, and its size, what it
 * computes and what it writes are bounded.
 */
import { PeftError } from '@peftjs/core';
import { CheckpointError, DataError } from '@peftjs/core/method';
import { reasonOf } from './json.js';

/** What someone says in a conversation. */
export interface ChatMessage {
  /** Mostly 'system', 'user', 'assistant' or 'tool'; which ones there are, a template says. */
  readonly role: string;
  readonly content: string;
}

/** How a model reads a conversation. */
export interface ChatTemplate {
  /** The template in Jinja, as the model's folder has it. */
  readonly source: string;
  /**
   * A conversation as the model reads it, the tokens that begin and end it included; with `addGenerationPrompt` up to the words that
   * open the assistant's next message.
   * @throws DataError for a conversation that the template refuses.
   * @throws CheckpointError for a template that is broken, too large, or computes or writes too much.
   */
  readonly render: (messages: readonly ChatMessage[], options: { readonly addGenerationPrompt: boolean }) => string;
}

/** A conversation that ends with an answer, to see what a template writes after it. */
const ANSWER = 'answer0answer';
const ANSWERED: readonly ChatMessage[] = [
  { role: 'user', content: 'question' },
  { role: 'assistant', content: ANSWER },
];

/**
 * The id of the special token that a template closes the assistant's message with, e.g. that of `<|im_end|>`: a model trained on
 * conversations ends its turn with it. Undefined where the template writes no such token, or cannot be rendered.
 */
export function endOfTurnId(
  render: ChatTemplate['render'],
  specialTokens: ReadonlyMap<string, number>,
): number | undefined {
  const after = afterAnswer(render);
  const places = [...specialTokens]
    .map(([token, id]) => ({ id, length: token.length, at: after.indexOf(token) }))
    .filter(({ at }) => at >= 0);
  return places.sort((a, b) => a.at - b.at || b.length - a.length)[0]?.id;
}

/** What a template writes after the assistant's words; nothing for one that is broken, which is reported when it is used. */
function afterAnswer(render: ChatTemplate['render']): string {
  try {
    const text = render(ANSWERED, { addGenerationPrompt: false });
    const at = text.lastIndexOf(ANSWER);
    return at < 0 ? '' : text.slice(at + ANSWER.length);
  } catch (error) {
    if (error instanceof PeftError) return '';
    throw error;
  }
}

/** What a template is made from. */
export interface ChatTemplateSource {
  readonly source: string;
  /** Where it is from, for messages. */
  readonly file: string;
  /** Special tokens by the names that templates know them by: `bos_token`. */
  readonly tokens: Readonly<Record<string, string>>;
}

/** Characters of a template: the longest in use, with tools in four forms, have some 20,000. */
export const MAX_TEMPLATE = 2 ** 16;
/** Work that a template may do, some half a second: an expression counts 1, and so does of what it gives an item, or 256 characters. */
const MAX_WORK = 200_000;
const CHARACTERS_OF_WORK = 256;
/** Characters that a template may hold or write at once. */
const MAX_CHARACTERS = 2 ** 22;
const MAX_RANGE = 100_000;

/** A value of a running template, as far as its size goes. */
interface Value {
  readonly value: unknown;
}

interface Scope {
  set(name: string, value: unknown): unknown;
}

/** Typed here: the package's own declarations name their files without extensions, which NodeNext does not follow. */
interface Jinja {
  readonly Environment: new () => Scope;
  readonly Interpreter: new (scope: Scope) => {
    evaluate(node: unknown, scope: unknown): Value;
    run(program: unknown): Value;
  };
  tokenize(template: string, options: { readonly lstrip_blocks: boolean; readonly trim_blocks: boolean }): unknown[];
  parse(tokens: unknown[]): unknown;
}

/** A template's own `raise_exception`. */
class Refusal extends Error {}

/** A template that is out of bounds. */
class Fault extends Error {}

/** Makes a chat template; what is wrong with it is found when it is used, for a model has other uses than conversations. */
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
          throw new DataError(`the chat template of ${file} refuses the conversation: ${reason}`, file, cause);
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
  return jinja.parse(jinja.tokenize(source, { lstrip_blocks: true, trim_blocks: true })); // as transformers sets Jinja
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
    if (work > MAX_WORK) throw new Fault('it computes without end, or too much');
    return result;
  };
  return String(interpreter.run(program).value);
}

/** What a value costs beside the expression that gives it. */
function workOf({ value }: Value): number {
  if (Array.isArray(value)) return value.length;
  if (typeof value !== 'string') return 0;
  if (value.length > MAX_CHARACTERS) throw new Fault(`it writes more than ${MAX_CHARACTERS} characters`);
  return value.length / CHARACTERS_OF_WORK;
}

/** What Jinja and transformers give every template. */
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
  if (!(length <= MAX_RANGE)) throw new Fault(`it counts further than ${MAX_RANGE}`);
  return Array.from({ length }, (_, index) => start + index * step);
}

/** 26 July 2024, the date that templates themselves fall back to: with today's, no run could be repeated. */
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
