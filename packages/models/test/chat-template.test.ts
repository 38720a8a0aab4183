import { readFileSync } from 'node:fs';
import { CheckpointError, DataError, type ChatMessage } from '@peftjs/core/method';
import { describe, expect, it } from 'vitest';
import { createChatTemplate, endOfTurnId } from '../src/chat-template.js';

interface Golden {
  readonly name: string;
  readonly tokens: Readonly<Record<string, string>>;
  readonly template: string;
  readonly cases: readonly {
    readonly messages: readonly ChatMessage[];
    readonly addGenerationPrompt: boolean;
    readonly text?: string;
    readonly refused?: string;
  }[];
}

const golden = new URL('fixtures/chat-templates.json', import.meta.url);
const { templates } = JSON.parse(readFileSync(golden, 'utf8')) as { readonly templates: readonly Golden[] };

const hello: readonly ChatMessage[] = [{ role: 'user', content: 'hello' }];

async function rendered(source: string, messages = hello): Promise<string> {
  const template = await createChatTemplate({ source, file: 'tokenizer_config.json', tokens: {} });
  return template.render(messages, { addGenerationPrompt: false });
}

describe.each(templates)('the template of $name', ({ template: source, tokens, cases }) => {
  it.each(cases)('renders case %# like transformers', async ({ messages, addGenerationPrompt, text, refused }) => {
    const template = await createChatTemplate({ source, file: 'tokenizer_config.json', tokens });
    const render = (): string => template.render(messages, { addGenerationPrompt });
    if (text === undefined) {
      expect(render).toThrow(DataError);
      expect(render).toThrow(`tokenizer_config.json rejects the conversation: ${String(refused)}`);
    } else expect(render()).toBe(text);
  });
});

it.each([
  ['qwen', '<|im_end|>'],
  ['llama-2', '</s>'],
  ['gemma', '<end_of_turn>'],
  ['llama-3', '<|eot_id|>'],
])('the template of %s ends an answer with %s', async (name, token) => {
  const { template: source, tokens } = templates.find((one) => one.name === name) as Golden;
  const { render } = await createChatTemplate({ source, file: 'tokenizer_config.json', tokens });
  const special = ['<|endoftext|>', '<s>', '<|im_start|>', '<start_of_turn>', '<|start_header_id|>', token];
  expect(endOfTurnId(render, new Map(special.map((one, id) => [one, id])))).toBe(special.indexOf(token));
});

describe('an untrusted template', () => {
  it.each([
    ['nested loops', '{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}', 'runs too long'],
    ['a huge range', '{% for a in range(1000000000000) %}{% endfor %}', 'range exceeds'],
    ['a macro that calls itself', '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}', 'rendered'],
    [
      'a text that doubles',
      `{% set n = namespace(x='ab') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}`,
      'writes more',
    ],
    [
      'a list that doubles',
      `{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}`,
      'runs too long',
    ],
    [
      'repeated work on long texts',
      `{% for a in range(9999) %}{{ messages[0].content | upper | length }}{% endfor %}`,
      'runs too long',
    ],
    ['deep nesting', `{{ ${'('.repeat(30_000)}`, 'rendered'],
    ['an invalid template', '{% for %}', 'rendered'],
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
