import { addAdapter, attach, onWarning, savePretrained, type PeftModel } from '@peftjs/core';
import { replaceAdapter } from '@peftjs/core/model';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, generateChat, generateText, type ChatMessage, type PretrainedModel } from '@peftjs/models';
import { pipeline, type Pipelines, type TextGenerationOptions } from '@peftjs/pipelines';
import { beforeAll, describe, expect, it } from 'vitest';
import { characterDecoder, sonnet } from '../models/characters.js';
import { methods } from './tiny.js';

const executor = compiled({ threads: 1 });
const TEMPLATE =
  '{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}a{% endif %}';

let model: PretrainedModel;
let write: Pipelines['text-generation'];

beforeAll(async () => {
  const storage = await characterDecoder('gpt2', sonnet, ['<|im_end|>']);
  await storage.write('tiny/chat_template.jinja', new TextEncoder().encode(TEMPLATE));
  model = await fromPretrained('tiny', { storage, task: 'causal-lm' });
  write = await pipeline('text-generation', 'tiny', { methods, executor, storage });
});

describe('texts', () => {
  it('are continued, with or without the prompt', async () => {
    const own = await generateText(model, 'Shall I', { executor, maxNewTokens: 5 });
    expect(await write('Shall I', { maxNewTokens: 5 })).toEqual([{ generated_text: `Shall I${own}` }]);
    expect(await write('Shall I', { maxNewTokens: 5, returnFullText: false })).toEqual([{ generated_text: own }]);
    expect(await write('Shall I', { max_new_tokens: 5, return_full_text: false } as never)).toEqual([
      { generated_text: own },
    ]);
  });

  it('are a list for a list, and are streamed in pieces', async () => {
    const pieces: string[] = [];
    const found = await write(['Shall', 'Rough'], {
      maxNewTokens: 4,
      returnFullText: false,
      onText: (piece) => void pieces.push(piece),
    });
    expect(found.length).toBe(2);
    expect(pieces.join('')).toBe(found.map(([one]) => one.generated_text).join(''));
    expect(await write([])).toEqual([]);
  });

  it('are sampled by a seed', async () => {
    const drawn = { doSample: true, seed: 3, maxNewTokens: 8 };
    expect(await write('Shall', drawn)).toEqual(await write('Shall', drawn));
  });

  it('draw texts of their own for equal prompts, and name the prompt of each token', async () => {
    const prompts: number[] = [];
    const drawn = { doSample: true, seed: 3, maxNewTokens: 8 };
    const found = await write(['Shall', 'Shall'], { ...drawn, onToken: ({ prompt }) => void prompts.push(prompt) });
    expect(found[0]).toEqual(await write('Shall', drawn));
    expect(found[1]).not.toEqual(found[0]);
    expect(new Set(prompts)).toEqual(new Set([0, 1]));
  });

  it('are as long without a length as with an undefined one', async () => {
    const endless = { eosTokenId: [] };
    expect(await write('Shall', { ...endless, maxNewTokens: undefined } as never)).toEqual(
      await write('Shall', endless),
    );
  });

  it('are generated with the adapter of a call', async () => {
    const peft = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 1, adapterName: 'one' });
    addAdapter(peft, lora({ r: 2, initLoraWeights: false }), { seed: 2, adapterName: 'two' });
    const both = await pipeline('text-generation', peft, { methods, executor });
    const own = await both(['Shall', 'Shall', 'Shall'], { adapter: ['one', 'two', '__base__'], maxNewTokens: 12 });
    expect(new Set(own.map(([{ generated_text }]) => generated_text)).size).toBe(3);
    expect(await both('Shall', { adapter: 'two', maxNewTokens: 12 })).toEqual(own[1]);
    expect(await write('Shall', { maxNewTokens: 12 })).toEqual(own[2]);
    await both.dispose();
  });
});

it('generation of a model in training uses its current adapter', async () => {
  const peft = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 1 });
  const live = await pipeline('text-generation', peft, { methods, executor });
  const before = await live('Shall', { maxNewTokens: 12 });
  const { values } = attach(model, lora({ r: 2, initLoraWeights: false }), { seed: 2 }).adapters.get('default') ?? {};
  replaceAdapter(peft, { values: values ?? {} });
  expect(await live('Shall', { maxNewTokens: 12 })).not.toEqual(before);
  await live.dispose();
});

it('the tokenizer of a pipeline takes the place of the model’s', async () => {
  const { tokenizer: own, ...without } = model;
  const loud = { ...own, decode: (ids: readonly number[]) => own.decode(ids).toUpperCase() };
  const given = await pipeline('text-generation', without, { methods, executor, tokenizer: loud });
  const text = await generateText(model, 'Shall I', { executor, maxNewTokens: 5 });
  expect(await given('Shall I', { maxNewTokens: 5 })).toEqual([{ generated_text: `Shall I${text.toUpperCase()}` }]);
  await given.dispose();
});

it('generation reads whole prompts', async () => {
  await expect(pipeline('text-generation', model, { methods, executor, maxTokens: 4 })).rejects.toThrow(
    "leave out 'maxTokens', or set 'maxNewTokens'",
  );
});

describe('conversations', () => {
  const messages: ChatMessage[] = [{ role: 'user', content: 'Shall I' }];

  it('get the assistant’s answer as their last message', async () => {
    const answer = await generateChat(model, messages, { executor, maxNewTokens: 5 });
    expect(await write(messages, { maxNewTokens: 5 })).toEqual([{ generated_text: [...messages, answer] }]);
    expect(await write([messages, messages], { maxNewTokens: 5 })).toEqual([
      [{ generated_text: [...messages, answer] }],
      [{ generated_text: [...messages, answer] }],
    ]);
  });
});

it('conversations are written in the template of their adapter’s folder, by the tokenizer of the base model', async () => {
  const storage = await characterDecoder('gpt2', sonnet, ['<|im_end|>']);
  const bytes = (text: string) => new TextEncoder().encode(text);
  await storage.write('tiny/chat_template.jinja', bytes(TEMPLATE));
  const base = await fromPretrained('tiny', { storage, task: 'causal-lm' });
  const peft = attach(base, lora({ r: 2, initLoraWeights: false }), { seed: 1 });
  for (const folder of ['adapter', 'other', 'plain']) await savePretrained(peft, folder, { storage });
  await storage.write('adapter/chat_template.jinja', bytes('{{ bos_token }}Rough {{ messages[0].content }}'));
  await storage.write('other/chat_template.jinja', bytes('Thou {{ messages[0].content }}'));
  const added = { 1: { content: '<s>', special: true }, 9999: { content: '<image>', special: true } };
  await storage.write('adapter/tokenizer_config.json', bytes(JSON.stringify({ added_tokens_decoder: added })));
  const inTokenizer = { added_tokens: [{ id: 2, content: '<image>', special: true }] }; // as transformers 5 writes it
  await storage.write('other/tokenizer.json', bytes(JSON.stringify(inTokenizer)));
  const told: string[] = [];
  const restore = onWarning((line) => told.push(line));
  const adapters = { other: 'other', plain: 'plain' };
  const chat = await pipeline('text-generation', 'adapter', { methods, executor, storage, adapters });
  restore();
  const messages = [{ role: 'user', content: 'winds' }];
  const answer = async (model: PeftModel | PretrainedModel, prompt?: string) => {
    const template = prompt === undefined ? undefined : () => prompt;
    return {
      generated_text: [...messages, await generateChat(model, messages, { executor, template, maxNewTokens: 5 })],
    };
  };
  const rough = [await answer(peft, '<|endoftext|>Rough winds')];
  expect(await chat(messages, { maxNewTokens: 5 })).toEqual(rough);
  expect(
    await chat([messages, messages, messages, messages], {
      adapter: ['default', 'other', 'plain', '__base__'],
      maxNewTokens: 5,
    }),
  ).toEqual([rough, [await answer(peft, 'Thou winds')], [await answer(peft)], [await answer(base)]]);
  expect(await chat(messages, { maxNewTokens: 5, template: () => 'Thou winds' })).toEqual([
    await answer(peft, 'Thou winds'),
  ]);
  expect(told).toEqual([
    `the tokenizer in 'adapter' has the special token "<s>", which is none of that number in the base model's. The base model's is used here: merge the adapter where it was trained.`,
    expect.stringMatching(/^the tokenizer in 'other' has the special token "<image>"/),
  ]);
});

it('conversations are written with their tools', async () => {
  const [name, messages] = ['Thou art more lovely', [{ role: 'user', content: 'Shall I' }]] as const;
  const tools = [{ type: 'function', function: { name } }] as const;
  const template: NonNullable<TextGenerationOptions['template']> = (_, { tools: given }) =>
    given?.[0]?.function.name ?? 'Shall';
  const options = { maxNewTokens: 5, template };
  const answer = await generateText(model, name, { executor, maxNewTokens: 5 });
  const content = (await generateChat(model, messages, { executor, ...options, tools })).content;
  expect(content).toBe(answer);
  expect(await write(messages, { ...options, tools })).toEqual([
    { generated_text: [...messages, { role: 'assistant', content }] },
  ]);
});

describe('bad input is rejected:', () => {
  it.each<[unknown, object, string]>([
    [
      5,
      {},
      'text-generation: expected a text, or a list of messages like { role: "user", content: ".." }, got 5 at position 1',
    ],
    ['', {}, 'got an empty text at position 1'],
    [['Shall', 7], {}, 'got 7 at position 2'],
    ['Shall', { maxTokens: 4 }, "text-generation: option 'maxTokens' is unknown"],
    ['Shall', { maxNewTokens: 0 }, "option 'maxNewTokens' is 0"],
    ['Shall', { template: () => '' }, "text-generation: option 'template' is for conversations, got a text"],
    ['Shall', { tools: [] }, "text-generation: option 'tools' is for conversations, got a text"],
    [[{ role: 'user', content: 'Shall' }], { tools: [7] }, "generateChat: expected 'tools[0]' to be like"],
    ['Shall', { returnFullText: 1 }, "text-generation: option 'returnFullText' is 1"],
  ])('%j with %j', async (prompt, options, message) => {
    await expect(write(prompt as string, options)).rejects.toThrow(message);
  });
});
