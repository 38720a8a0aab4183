import { onWarning } from '@peftjs/core';
import { encodeLanguage, languageSet, type CausalTokenizer, type ChatTemplate } from '@peftjs/tasks';
import { beforeEach, describe, expect, it } from 'vitest';

let told: string[] = [];
beforeEach(() => {
  told = [];
  return onWarning((line) => told.push(line));
});

/** The format of Llama 2: a question between marks, an answer with an end, and nothing to open the answer. */
const marked: ChatTemplate = (messages) =>
  messages.map(({ role, content }) => (role === 'user' ? `[${content}]` : ` ${content};`)).join('');

const characters: CausalTokenizer = {
  tokenIds: (text) => Array.from(text, (c) => c.codePointAt(0) ?? 0),
  eosTokenId: 0,
  bosTokenId: 1,
};
const talking: CausalTokenizer = { ...characters, chatTemplate: { render: marked } };

const messages = [
  { role: 'user', content: 'Hi?' },
  { role: 'assistant', content: 'Yo.' },
  { role: 'user', content: 'So?' },
  { role: 'assistant', content: 'No.' },
] as const;
const chat = languageSet('chat', [{ messages }, { messages: messages.slice(0, 2) }]);
const prompts = languageSet('prompts', [{ prompt: 'a', completion: 'b' }]);

const written = (ids: ArrayLike<number>): string =>
  Array.from(ids, (id) => (id < 0 ? '_' : String.fromCodePoint(id))).join('');

describe('conversations for a model with a chat template', () => {
  it("are written by it, and only the assistant's messages and their ends are learnt", async () => {
    const [row] = encodeLanguage(await chat, talking, { maxTokens: 99 }).rows;
    expect(written(row?.ids ?? [])).toBe('[Hi?] Yo.;[So?] No.;');
    expect(written(row?.labels ?? [])).toBe('_____ Yo.;_____ No.;');
    expect(told).toEqual([]);
  });

  it('reach the template with their tools, in every part of the row', async () => {
    const tools = [{ type: 'function', function: { name: 'f' } }] as const;
    const calls = [{ type: 'function', function: { name: 'f', arguments: {} } }] as const;
    const naming: ChatTemplate = (all, { tools: given }) =>
      `${given?.[0]?.function.name ?? '-'}:` +
      all.map(({ content, tool_calls }) => content ?? `<${tool_calls?.[0]?.function.name ?? ''}>;`).join('');
    const rows = [{ messages: [messages[0], { role: 'assistant', tool_calls: calls }] as const, tools }];
    const [row] = encodeLanguage(await languageSet('calls', rows), talking, { maxTokens: 99, template: naming }).rows;
    expect(written(row?.ids ?? [])).toBe('f:Hi?<f>;');
    expect(written(row?.labels ?? [])).toBe('_____<f>;');
  });

  it("are written by the caller's template if there is one", async () => {
    const shouted: ChatTemplate = (all, options) => marked(all, options).toUpperCase();
    const [row] = encodeLanguage(await chat, talking, { maxTokens: 99, template: shouted }).rows;
    expect(written(row?.ids ?? [])).toBe('[HI?] YO.;[SO?] NO.;');
  });
});

describe('conversations for a model without a chat template', () => {
  it('are written as ChatML, with one warning', async () => {
    const [row] = encodeLanguage(await chat, characters, { maxTokens: 99 }).rows;
    encodeLanguage(await languageSet('more', [{ messages }]), characters, { maxTokens: 99 });
    expect(written(row?.ids ?? [])).toMatch(/^<\|im_start\|>user\nHi\?<\|im_end\|>\n/);
    expect(told).toEqual(['the model has no chat template of its own: conversations are written as ChatML']);
  });

  it('are refused with tools or tool calls, which ChatML cannot write', async () => {
    const tools = [{ type: 'function', function: { name: 'f' } }] as const;
    const calls = [{ type: 'function', function: { name: 'f' } }] as const;
    const withTools = await languageSet('tools', [{ messages, tools }]);
    const withCalls = await languageSet('calls', [{ messages: [{ role: 'assistant', tool_calls: calls }] }]);
    expect(() => encodeLanguage(withTools, characters, { maxTokens: 99 })).toThrow("no form for tools, got 'tools'");
    expect(() => encodeLanguage(withCalls, characters, { maxTokens: 99 })).toThrow("a message with 'tool_calls'");
  });

  it('does not matter for prompts with completions', async () => {
    encodeLanguage(await prompts, characters, { maxTokens: 99 });
    expect(told).toEqual([]);
  });
});
