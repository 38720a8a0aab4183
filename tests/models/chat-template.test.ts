import { attach, mergeAndUnload, train } from '@peftjs/core';
import { CheckpointError, UnsupportedError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import {
  fromPretrained,
  generate,
  generateChat,
  generateText,
  saveGguf,
  saveMerged,
  saveOnnx,
  type PretrainedModel,
} from '@peftjs/models';
import { encodeLanguage, languageSet, trainingData } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import { characterDecoder } from './characters.js';

const executor = compiled({ threads: 1 });
const messages = [{ role: 'user', content: 'ab' }];
const MARKED =
  '{% for m in messages %}{{ bos_token ~ m.content }}{% endfor %}{% if add_generation_prompt %}c{% endif %}';

/** A language model with these additional files. */
async function load(
  files: Readonly<Record<string, string>>,
  task: 'causal-lm' | 'sequence-classification' = 'causal-lm',
) {
  return fromPretrained('tiny', { storage: await stored(files), task });
}

async function stored(files: Readonly<Record<string, string>>, network: 'gpt2' | 'qwen2' = 'gpt2') {
  const storage = await characterDecoder(network, 'abc');
  for (const [name, content] of Object.entries(files)) {
    await storage.write(`tiny/${name}`, new TextEncoder().encode(content));
  }
  return storage;
}

const settings = (chatTemplate: unknown): Record<string, string> => ({
  'tokenizer_config.json': JSON.stringify({ bos_token: { content: 'b' }, chat_template: chatTemplate }),
});
const written = ({ tokenizer: { chatTemplate } }: PretrainedModel): string | undefined =>
  chatTemplate?.render(messages, { addGenerationPrompt: true });

describe('the chat template of a folder', () => {
  it.each<[string, Readonly<Record<string, string>>, string | undefined]>([
    ['is that of tokenizer_config.json, with its special tokens', settings(MARKED), 'babc'],
    ['is the default one of several', settings([{ name: 'tool_use', template: 'x' }, { name: 'default', template: MARKED }]), 'babc'], // oxfmt-ignore
    ['is that of chat_template.jinja, if there is one', { ...settings('x'), 'chat_template.jinja': MARKED }, 'babc'],
    ['is undefined if there is none', {}, undefined],
    ['is undefined if it is not a text', settings(7), undefined],
  ])('%s', async (_, files, text) => {
    expect(written(await load(files))).toBe(text);
  });

  const forTools: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    'in a list': settings([{ name: 'default', template: 'x' }, { name: 'tool_use', template: MARKED }]), // oxfmt-ignore
    'in files': { ...settings('y'), 'chat_template.jinja': 'x', 'additional_chat_templates/tool_use.jinja': MARKED },
  };

  it.each(Object.entries(forTools))('is another one for tools, %s, also of an exported model', async (_, files) => {
    const storage = await stored(files, 'qwen2');
    const model = await fromPretrained('tiny', { storage, task: 'causal-lm' });
    await saveMerged(model, 'merged', { sourceStorage: storage, storage });
    await saveGguf(model, 'merged.gguf', { sourceStorage: storage, storage });
    for (const name of ['tiny', 'merged', 'merged.gguf']) {
      const { tokenizer } = await fromPretrained(name, { storage, task: 'causal-lm' });
      const render = (tools?: []): string | undefined =>
        tokenizer.chatTemplate?.render(messages, { addGenerationPrompt: true, ...(tools && { tools }) });
      expect([render(), render([])], name).toEqual(['x', 'babc']);
      expect(tokenizer.chatTemplate, name).toMatchObject({ source: 'x', toolSource: MARKED });
    }
  });

  it('is only for language models', async () => {
    expect((await load(settings(MARKED), 'sequence-classification')).tokenizer.chatTemplate).toBeUndefined();
  });

  it('may be broken without preventing a model from loading', async () => {
    const model = await load(settings('{% for %}'));
    expect(() => written(model)).toThrow(CheckpointError);
    expect(() => written(model)).toThrow('tiny/tokenizer_config.json: the chat template cannot be rendered');
  });

  it('is rejected if its file is too large', async () => {
    await expect(load({ 'chat_template.jinja': 'a'.repeat(300_000) })).rejects.toThrow(CheckpointError);
  });
});

/** The smallest ChatML: each message is between two special tokens. */
const CHATML =
  "{% for m in messages %}{{ '<|im_start|>' ~ m.role[0] ~ m.content ~ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>a{% endif %}";
const MARKS = ['<|im_start|>', '<|im_end|>'];
const [END, IM_START, IM_END] = [0, 7, 8];

async function loadChatML(template = CHATML, marks = MARKS) {
  const storage = await characterDecoder('gpt2', 'abcus\n', marks);
  for (const [name, content] of Object.entries(settings(template))) {
    await storage.write(`tiny/${name}`, new TextEncoder().encode(content));
  }
  return { storage, model: await fromPretrained('tiny', { storage, task: 'causal-lm' }) };
}

describe('generateChat', () => {
  it("continues the template's text, without adding a first token", async () => {
    const model = await load(settings(MARKED));
    const options = { maxNewTokens: 5, eosTokenId: [] };
    const [after] = await generate(model, [model.tokenizer.tokenIds('babc')], { executor, ...options });
    expect(await generateChat(model, messages, { executor, ...options })).toEqual({
      role: 'assistant',
      content: model.tokenizer.decode(after?.ids ?? []),
    });
  });

  it('needs a template, its own or a given one', async () => {
    const model = await load({});
    await expect(generateChat(model, messages, { executor })).rejects.toThrow(UnsupportedError);
    const template = () => 'abc';
    const options = { executor, maxNewTokens: 3, eosTokenId: [] };
    const content = await generateText(model, 'abc', options);
    expect(await generateChat(model, messages, { ...options, template })).toEqual({ role: 'assistant', content });
  });

  it.each([
    [[], 'expected messages, got none'],
    ['ab', 'expected a list of messages like'],
    [[{ role: 'user' }], "message 1: expected 'content' to be a string, got missing"],
  ])('rejects %j in place of messages, as generateText rejects messages', async (bad, problem) => {
    const model = await load(settings(MARKED));
    await expect(generateChat(model, bad as never, { executor })).rejects.toThrow(problem);
    const text = generateText(model, messages as never, { executor });
    await expect(text).rejects.toThrow('for the messages of a conversation use generateChat');
  });
});

/** Found while loading, where nothing but the template's work can be limited. */
const SHARED_LIST = '{% set a=[1,1] %}' + '{% set a=[a,a,a,a,a,a,a,a] %}'.repeat(9) + '{{ a|tojson }}';

describe('the end of a turn', () => {
  it.each([
    ['the token that closes an answer in the template', CHATML, MARKS, [END, IM_END]],
    ['the first one of several', CHATML.replace('<|im_end|>', '..<|im_start|><|im_end|>'), MARKS, [END, IM_START]],
    ['undefined if the vocabulary has no such token', CHATML, [], [END]],
    ['undefined if the template cannot be rendered', '{% for %}', MARKS, [END]],
    ['undefined if the template prints a shared list of a billion numbers', SHARED_LIST, MARKS, [END]],
  ])('is %s', async (_, template, marks, ids) => {
    expect((await loadChatML(template, marks)).model.eosTokenIds).toEqual(ids);
  });

  it('is learnt, and stops a chat, also in the folder of the merged model', { timeout: 30_000 }, async () => {
    const { storage, model } = await loadChatML();
    const answered = (said: string, answer: string) => ({
      messages: [
        { role: 'user' as const, content: said },
        { role: 'assistant' as const, content: answer },
      ],
    });
    const set = await languageSet('talk', [answered('a', 'bb'), answered('b', 'c')]);
    const rows = encodeLanguage(set, model.tokenizer, { maxTokens: 16 });
    const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
    await train(peft, trainingData(rows, { batchSize: 2, seed: 1 }), { executor, epochs: 60, learningRate: 2e-2 });

    const merged = mergeAndUnload(peft);
    const asked = [{ role: 'user', content: 'a' }];
    for (const one of [peft, merged]) {
      expect(await generateChat(one, asked, { executor })).toEqual({ role: 'assistant', content: 'bb' });
    }
    const graph = new Uint8Array([1]);
    await saveMerged(merged, 'merged', { sourceStorage: storage, storage });
    await saveOnnx(merged, graph, 'onnx', { sourceStorage: storage, storage, maxTokens: 16 });
    for (const folder of ['merged', 'onnx']) {
      const config: unknown = JSON.parse(
        new TextDecoder().decode(await storage.read(`${folder}/generation_config.json`)),
      );
      expect(config).toEqual({ bos_token_id: END, pad_token_id: END, eos_token_id: [END, IM_END] });
    }
  });

  it('does not change the other settings of a generation_config.json', async () => {
    const { storage } = await loadChatML();
    const own = { temperature: 0.6, eos_token_id: 3 };
    await storage.write('tiny/generation_config.json', new TextEncoder().encode(JSON.stringify(own)));
    const model = await fromPretrained('tiny', { storage, task: 'causal-lm' });
    await saveMerged(model, 'merged', { sourceStorage: storage, storage });
    const merged: unknown = JSON.parse(new TextDecoder().decode(await storage.read('merged/generation_config.json')));
    expect(merged).toEqual({ temperature: 0.6, eos_token_id: [3, IM_END] });
  });
});
