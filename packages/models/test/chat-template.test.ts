import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { CheckpointError, DataError } from '@peftjs/core/method';
import type { ChatMessage, ChatTool } from '@peftjs/core/model';
import { describe, expect, it } from 'vitest';
import { createChatTemplate, endOfTurnId } from '../src/chat-template.js';

interface Conversation {
  readonly messages: readonly ChatMessage[];
  readonly tools: readonly ChatTool[] | null;
}

/** How transformers renders a conversation, refuses it, or fails. */
interface Case {
  readonly conversation: number;
  readonly addGenerationPrompt: boolean;
  readonly text?: string;
  readonly refused?: string;
  readonly broken?: string;
}

interface Golden {
  readonly name: string;
  readonly source: string;
  readonly tokens: Readonly<Record<string, string>>;
  readonly template: string;
  readonly cases: readonly Case[];
}

interface Known {
  readonly conversations: readonly Conversation[];
  readonly templates: readonly Golden[];
}

interface Drawn {
  readonly conversations: readonly Conversation[];
  readonly tokens: Readonly<Record<string, string>>;
  /** The number of templates with each construct. */
  readonly constructs: Readonly<Record<string, number>>;
  readonly cases: readonly (Case & { readonly template: string })[];
}

function fixture(name: string): unknown {
  const bytes = readFileSync(new URL(`fixtures/${name}.json.gz`, import.meta.url));
  return JSON.parse(gunzipSync(bytes).toString('utf8'));
}

const known = fixture('chat-templates') as Known;
const drawn = fixture('chat-drawn') as Drawn;

const hello: readonly ChatMessage[] = [{ role: 'user', content: 'hello' }];
const file = 'tokenizer_config.json';

async function rendered(source: string, messages = hello, tools?: readonly ChatTool[]): Promise<string> {
  const template = await createChatTemplate({ source, file, tokens: {} });
  return template.render(messages, { addGenerationPrompt: false, tools });
}

/** Renders a case. Returns the text, or the message of the error. */
async function outcome(
  { template: source, tokens }: { readonly template: string; readonly tokens: Golden['tokens'] },
  { addGenerationPrompt }: Case,
  { messages, tools }: Conversation,
): Promise<Pick<Case, 'text' | 'refused' | 'broken'>> {
  const template = await createChatTemplate({ source, file, tokens });
  try {
    return { text: template.render(messages, { addGenerationPrompt, tools: tools ?? undefined }) };
  } catch (error) {
    if (error instanceof DataError) return { refused: error.message };
    if (error instanceof CheckpointError) return { broken: error.message };
    throw error;
  }
}

describe.each(known.templates)('the template of $name', (one) => {
  it.each(one.cases)('renders case %# like transformers', async (golden) => {
    const { text, refused, broken } = await outcome(one, golden, known.conversations[golden.conversation] as Conversation); // oxfmt-ignore
    expect(text).toBe(golden.text);
    if (golden.refused !== undefined) expect(refused).toContain(`${file} rejects the conversation: ${golden.refused}`);
    if (golden.broken !== undefined) expect(broken).toContain('the chat template cannot be rendered');
  });
});

it('ten and more of the templates are those of models, and some conversations of each use tools', () => {
  expect(known.templates.filter(({ source }) => source !== 'own').length).toBeGreaterThanOrEqual(10);
  expect(known.conversations.filter(({ tools }) => tools !== null).length).toBeGreaterThan(3);
});

describe('drawn templates', () => {
  it('have every construct at least 20 times', () => {
    expect(drawn.cases.length).toBe(1000);
    expect(Object.keys(drawn.constructs).length).toBeGreaterThanOrEqual(180);
    expect(Object.entries(drawn.constructs).filter(([, count]) => count < 20)).toEqual([]);
  });

  it('render as in transformers', async () => {
    for (const one of drawn.cases) {
      const result = await outcome({ ...one, tokens: drawn.tokens }, one, drawn.conversations[one.conversation] as Conversation); // oxfmt-ignore
      expect(result.text, one.template).toBe(one.text);
      if (one.refused !== undefined) expect(result.refused, one.template).toContain(one.refused);
    }
  });
});

it.each([
  ['qwen', '<|im_end|>'],
  ['llama-2', '</s>'],
  ['gemma', '<end_of_turn>'],
  ['llama-3', '<|eot_id|>'],
])('the template of %s ends an answer with %s', async (name, token) => {
  const { template: source, tokens } = known.templates.find((one) => one.name === name) as Golden;
  const { render } = await createChatTemplate({ source, file, tokens });
  const special = ['<|endoftext|>', '<s>', '<|im_start|>', '<start_of_turn>', '<|start_header_id|>', token];
  expect(endOfTurnId(render, new Map(special.map((one, id) => [one, id])))).toBe(special.indexOf(token));
});

it('5,000 special tokens that a long text nearly has are looked for in seconds', async () => {
  const source = `{{ messages[1].content ~ 'aaaa' * 1000000 ~ '一' }}`;
  const { render } = await createChatTemplate({ source, file, tokens: {} });
  const special = Array.from({ length: 5000 }, (_, id) => [`aaaaa${String.fromCodePoint(0x4e01 + id)}`, id] as const);
  const start = performance.now();
  expect(endOfTurnId(render, new Map(special))).toBeUndefined();
  expect(performance.now() - start).toBeLessThan(5000);
});

it('a text of a million digits that is no number is read in seconds', async () => {
  const source = `{{ ('1' * 1000000 ~ 'x')|int(7) }} {{ ('1' * 1000000 ~ 'x')|float(0.5) }} {{ '1.'|int }} {{ '.5e1'|float }}`;
  const { render } = await createChatTemplate({ source, file, tokens: {} });
  const start = performance.now();
  expect(render([{ role: 'user', content: 'a' }], { addGenerationPrompt: false })).toBe('7 0.5 1 5.0');
  expect(performance.now() - start).toBeLessThan(5000);
});

describe('values are those of Python', () => {
  it.each<[string, string]>([
    [`{{ '\\n x\\n'.strip('\\n') }}|{{ 'xyax'.lstrip('xy') }}|{{ 'ax'.rstrip('x') }}`, ' x|ax|a'],
    [`{{ '\\ufeff\\x1c\\x85a\\x1f'.strip()|tojson }}{{ ' \\ufeff'|trim|length }}`, '"\ufeff\\u001c\x85a"1'],
    [`{{ 'a\\x1cb\\ufeffc'.split()|tojson }}`, '["a", "b\ufeffc"]'],
    [`{{ true }} {{ none }} {{ [1, 2.0, 'it\\'s', '\\n'] }} {{ {'a': (1, 2)} }} {{ 1e16 }} {{ 1e-5 }}`, `True None [1, 2.0, "it's", '\\n'] {'a': (1, 2)} 1e+16 1e-05`], // oxfmt-ignore
    [`{{ "they're ÉTÉ ǆ ΑΣ".title() }}|{{ "they're".title() == "they're"|title }}|{{ 'ßA b'.capitalize() }}`, "They'Re Été ǅ Ας|False|Ssa b"], // oxfmt-ignore
    [`{{ '😀ab'[1:] }}{{ '😀'|length }}{{ 'abc'[::-1] }}{{ 'abc'[-1] }}`, 'ab1cbac'],
    [`{{ {'é': '"\\n<'}|tojson }}{{ [1, {}]|tojson(indent=1) }}{{ 'é\\x7f'|tojson(ensure_ascii=true) }}`, '{"é": "\\"\\n<"}[\n 1,\n {}\n]"\\u00e9\\u007f"'], // oxfmt-ignore
    [`{% for a in [1, 2] %}{% if loop.first %}{% set b = 1 %}{% endif %}{{ b }}{% endfor %}`, '1'],
    [`{% for a in 'ab' %}{{ a }}{% break %}{% endfor %}`, 'a'],
    [`{% macro m() %}{{ a }}{% endmacro %}{% for a in [1] %}{{ m() }}{% endfor %}`, ''],
    [`{{ '<' + ('>'|safe) }}{{ 1 < 2 < 2 }}{{ -7 // 2 }}{{ -7 % 3 }}`, '&lt;>False-42'],
    [`{{ ('#}\n') }}{{ '  {% x %}' }}`, '#}\n  {% x %}'],
  ])('in %s', async (source, text) => {
    expect(await rendered(source)).toBe(text);
  });
});

const call = { id: 'c1', type: 'function', function: { name: 'f', arguments: { a: 1 } } } as const;
const tool: ChatTool = { type: 'function', function: { name: 'f', parameters: { type: 'object' } } };

describe('messages and tools', () => {
  it('reach the template with all their fields', async () => {
    const messages: ChatMessage[] = [
      { role: 'assistant', content: null, tool_calls: [call], thinking: 'hm' },
      { role: 'tool', content: 'r', tool_call_id: 'c1', name: 'f', extra: [true] },
    ];
    const text = await rendered('{{ messages|tojson }}{{ tools|tojson }}', messages, [tool]);
    const reasoned = { thinking: 'hm', role: 'assistant', tool_calls: [call], reasoning_content: 'hm' }; // as transformers
    const spaced = (value: unknown): string => JSON.stringify(value).replace(/([:,])/g, '$1 ');
    expect(text).toBe(spaced([reasoned, messages[1]]) + spaced([tool]));
  });

  it.each<[string, unknown, unknown, string]>([
    ['no messages', null, undefined, 'chat template: expected a list of messages'],
    ['a message that is not one', [7], undefined, 'message 1: expected a message with a role'],
    ['no content', [...hello, { role: 'user' }], undefined, "message 2: expected 'content' to be a string"], // oxfmt-ignore
    ['tool calls that are no list', [{ role: 'assistant', tool_calls: call }], undefined, "expected 'tool_calls' to be a list"], // oxfmt-ignore
    ['a call without a function', [{ role: 'assistant', tool_calls: [call, {}] }], undefined, "expected 'tool_calls[1]' to be like"], // oxfmt-ignore
    ['a name that is no text', [{ ...hello[0], name: 7 }], undefined, "expected 'name' to be a string, got 7"],
    ['a function as a field', [{ ...hello[0], run: () => 1 }], undefined, 'a function is not JSON'],
    ['tools that are no list', hello, tool, "chat template: expected 'tools' to be a list"],
    ['a tool without a name', hello, [{ type: 'function', function: {} }], "expected 'tools[0]' to be like"],
  ])('are refused for %s', async (_, messages, tools, problem) => {
    const work = rendered('x', messages as ChatMessage[], tools as ChatTool[] | undefined);
    await expect(work).rejects.toThrow(DataError);
    await expect(work).rejects.toThrow(problem);
  });
});

/** A list of a billion numbers, in 300 bytes: nine lists of eight references each. */
const shared = (name: string): string =>
  `{% set ${name}=[1,1] %}` + `{% set ${name}=[${Array(8).fill(name).join(',')}] %}`.repeat(9);
const SHARED = shared('a') + shared('b');
const nested = "{% set a={'x': 1} %}" + "{% set a={'x': a, 'y': a, 'z': a, 'w': a} %}".repeat(15);
const long = "{% set s = 'a' * 2000000 %}";
const often = (expression: string): string => `${long}{% for i in range(99999) %}{% if ${expression} %}{% endif %}{% endfor %}`; // oxfmt-ignore

describe('an untrusted template', () => {
  it.each([
    ['nested loops', '{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}', 'runs too long'],
    ['a huge range', '{% for a in range(1000000000000) %}{% endfor %}', 'range exceeds'],
    ['a macro that calls itself', '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}', 'rendered'],
    ['a tree of macros', '{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(40) }}', 'too long'], // oxfmt-ignore
    ['macros defined in a loop', `{% for i in range(99999) %}{% macro m() %}${'{{ 1 }}'.repeat(8000)}{% endmacro %}{% endfor %}`, 'too long'], // oxfmt-ignore
    ['a text that doubles', `{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}`, 'writes more'], // oxfmt-ignore
    ['a list that doubles', `{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}`, 'runs too long'], // oxfmt-ignore
    ['repeated work on long texts', `{% for a in range(9999) %}{{ messages[0].content | upper | length }}{% endfor %}`, 'runs too long'], // oxfmt-ignore
    ['deep lists', '{% set n=namespace(x=[]) %}{% for i in range(30000) %}{% set n.x=[n.x] %}{% endfor %}{{ n.x }}', 'rendered'], // oxfmt-ignore
    ['copies of a list', '{% set a=range(90000)|list %}{% for i in range(9000) %}{{ loop.cycle(*a) }}{% endfor %}', 'too long'], // oxfmt-ignore
    ['a shared dictionary', `${nested}{{ a|tojson(sort_keys=true) }}`, 'runs too long'],
    ...['a|tojson', 'a|string', 'a', "a|join(',')", "a ~ ''", 'a == b', 'a in [b]', 'a < b', '[a, b]|sort|length', "[a]|select('eq', b)|list", "'{}'.format(a)", 'raise_exception(a)'] // oxfmt-ignore
      .map((expression) => [`a shared list in ${expression}`, `${SHARED}{{ ${expression} }}`, 'it ']),
    ...["('a' * 1000000 ~ 'b') in s", "s.split('a' * 1000 ~ 'b')", "s|replace('', s)", "s.count('a' * 100000)", 's.title()', 's.split("a")', 's|list', 's * 1000', 's.strip(s)', 's[::-1]'] // oxfmt-ignore
      .map((expression) => [`a long text in ${expression}`, often(expression), 'it ']),
    ['a wide indent', `{{ [1]|tojson(indent=999999999) }}`, 'writes more'],
    ['a wide indent of lines', `{{ 'x'|indent(999999999) }}`, 'writes more'],
    ['a large power', '{{ 10 ** 400 }}', 'expected integers'],
    ['deep nesting', `{{ ${'('.repeat(30_000)}`, 'rendered'],
    ['deep blocks', '{% if 1 %}'.repeat(6000), 'rendered'],
    ['long sums', `{{ 1${'+1'.repeat(30_000)} }}`, 'rendered'],
    ['many blanks', ' '.repeat(65_000) + '{% x', 'rendered'],
    ['open braces', '{{'.repeat(32_000), 'rendered'],
    ['an open string', `{{ ${"'".repeat(65_001)} }}`, 'rendered'],
    ['open raw blocks', '{% raw %}' + '{%   endraw '.repeat(5000), 'rendered'],
    ['an invalid template', '{% for %}', 'rendered'],
    ['a name of a namespace that Python refuses', '{% set n = namespace(_x=1) %}', "attribute '_x'"],
    ['a filter that chat templates do not use', '{{ 1|round }}', "No filter named 'round'"],
    ['a method that chat templates do not use', "{{ 'a'.swapcase() }}", "'str object' has no attribute 'swapcase'"],
    ['a long template', 'a'.repeat(70_000), 'at most 65536 characters'],
  ])('is stopped at %s', async (_, source, message) => {
    const work = rendered(source, [{ role: 'user', content: 'hello '.repeat(10_000) }]);
    await expect(work).rejects.toThrow(CheckpointError);
    await expect(work).rejects.toThrow(message);
  });

  it('cannot access JavaScript properties', async () => {
    expect(await rendered(`{{ messages.constructor }}{{ messages[0].__proto__ }}{{ process }}`)).toBe('');
  });

  it('has the same date every day', async () => {
    expect(await rendered(`{{ strftime_now('%d %b %Y') }}`)).toBe('26 Jul 2024');
  });
});
