import { onWarning } from '@peftjs/core';
import { encodeLanguage, languageSet, type CausalTokenizer, type ChatTemplate } from '@peftjs/tasks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

let told: string[] = [];
let restore = (): void => undefined;
beforeEach(() => {
  told = [];
  restore = onWarning((line) => told.push(line));
});
afterEach(() => {
  restore();
});

/** As Llama 2 is prompted: a question between marks, an answer that ends, nothing to open the answer. */
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

describe('conversations for a model with a chat template of its own', () => {
  it('are written by it, and only what the assistant says is learnt, with what ends it', async () => {
    const [row] = encodeLanguage(await chat, talking, { maxTokens: 99 }).rows;
    expect(written(row?.ids ?? [])).toBe('[Hi?] Yo.;[So?] No.;');
    expect(written(row?.labels ?? [])).toBe('_____ Yo.;_____ No.;');
    expect(told).toEqual([]);
  });

  it('are written by another one where the caller has one', async () => {
    const shouted: ChatTemplate = (all, options) => marked(all, options).toUpperCase();
    const [row] = encodeLanguage(await chat, talking, { maxTokens: 99, template: shouted }).rows;
    expect(written(row?.ids ?? [])).toBe('[HI?] YO.;[SO?] NO.;');
  });
});

describe('conversations for a model without a chat template', () => {
  it('are written as ChatML, which is said once', async () => {
    const [row] = encodeLanguage(await chat, characters, { maxTokens: 99 }).rows;
    encodeLanguage(await languageSet('more', [{ messages }]), characters, { maxTokens: 99 });
    expect(written(row?.ids ?? [])).toMatch(/^<\|im_start\|>user\nHi\?<\|im_end\|>\n/);
    expect(told).toEqual(['the model has no chat template of its own: conversations are written as ChatML']);
  });

  it('are no matter of prompts with completions', async () => {
    encodeLanguage(await prompts, characters, { maxTokens: 99 });
    expect(told).toEqual([]);
  });
});
