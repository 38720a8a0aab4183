// Code blocks of the page on pipelines.
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { attach, savePretrained } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedOptions } from '@peftjs/models';
import { pipeline } from 'peftjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { characterDecoder, sonnet } from '../../tests/models/characters.js';
import { root } from '../../tests/workspace/repository.js';
import { useFolder } from './surroundings.js';

useFolder();

const text = 'Angela Merkel met Barack Obama in Berlin.';
const texts = ['the soup was cold', 'the soup was hot'];

async function saveAdapter(folder: string, base: string, options: PretrainedOptions): Promise<void> {
  const model = await fromPretrained(base, options);
  await savePretrained(attach(model, lora({ r: 2, initLoraWeights: false }), { seed: folder.length }), folder);
}

beforeAll(async () => {
  const fixtures = join(root, 'tests/pipelines/fixtures');
  await cp(join(fixtures, 'classifier'), 'base-model', { recursive: true });
  await cp(join(fixtures, 'reranker'), 'my-reranker', { recursive: true });
  await cp(join(fixtures, 'tagger-bert'), 'my-tagger', { recursive: true });
  const one = { problemType: 'single_label_classification' } as const;
  await saveAdapter('my-adapter', 'base-model', { labels: ['bad', 'good'], ...one });
  await saveAdapter('my-topics', 'base-model', {
    labels: ['food', 'price'],
    problemType: 'multi_label_classification',
  });
  await saveAdapter('adapters/support', 'base-model', { labels: ['open', 'closed'], ...one });
  await saveAdapter('adapters/sales', 'base-model', { labels: ['lead', 'none'], ...one });
  await saveAdapter('my-embedder', 'base-model', { task: 'feature-extraction' });
});

describe('labels', () => {
  it('come from an adapter in three lines', async () => {
    // #region classify
    const classify = await pipeline('text-classification', 'my-adapter');
    await classify('the soup was cold'); // [{ label: 'bad', score: 0.98 }]
    await classify(['the soup was cold', 'the soup was hot'], { topK: 2 }); // [[{ label, score }, ..], ..]
    await classify.dispose();
    // #endregion classify
    await expect(classify('the soup was cold')).rejects.toThrow('disposed');
  });

  it('come in several shapes', async () => {
    const [premise, hypothesis] = texts as [string, string];
    // #region shapes
    const classify = await pipeline('text-classification', 'my-adapter');
    await classify(text); // the best label, [{ label, score }]
    await classify(text, { topK: null }); // all labels, the best first
    await classify(texts); // one label for each text
    await classify(texts, { topK: 2 }); // a list for each text
    await classify({ text: premise, textPair: hypothesis }); // a pair of texts as one input
    // #endregion shapes
    expect((await classify(text, { topK: null })).length).toBe(2);
    expect((await classify({ text: premise, textPair: hypothesis })).length).toBe(1);
  });

  it('come by a threshold', async () => {
    // #region threshold
    const tagTopics = await pipeline('text-classification', 'my-topics');
    await tagTopics(texts, { threshold: 0.5 }); // [[{ label: 'food', score: 0.9 }, { label: 'price', score: 0.6 }], []]
    // #endregion threshold
    expect((await tagTopics(texts, { threshold: 0 })).map((list) => list.length)).toEqual([2, 2]);
  });
});

it('entities have start and end offsets', async () => {
  const shown: string[] = [];
  const show = (_: string, word: string): unknown => shown.push(word);
  // #region tag
  const tag = await pipeline('token-classification', 'my-tagger');
  const entities = await tag('Angela Merkel met Barack Obama in Berlin.', { aggregationStrategy: 'simple' });
  for (const { entity_group, start, end } of entities) show(entity_group, text.slice(start, end));
  // #endregion tag
  expect(shown.length).toBeGreaterThan(0);
  for (const word of shown) expect(text).toContain(word);
});

it('embeddings come pooled or token by token', async () => {
  // #region embed
  const embed = await pipeline('feature-extraction', 'my-embedder');
  const { data, dims } = await embed(texts); // Float32Array, [texts, width]
  const tokens = await embed(texts, { pooling: 'none' }); // [texts, tokens, width]; shorter texts are padded with zeros
  const vectors = (await embed(texts, { pooling: 'mean', normalize: true })).tolist(); // nested lists
  // #endregion embed
  expect([dims, data.length, tokens.dims.length, vectors.length]).toEqual([[2, 16], 32, 3, 2]);
});

it('embeddings come with a prompt before the text', async () => {
  const prompts = { prompts: { query: 'query: ' }, default_prompt_name: null };
  await writeFile('my-embedder/config_sentence_transformers.json', JSON.stringify(prompts));
  const embed = await pipeline('feature-extraction', 'my-embedder');
  const plain = await embed('where is it?');
  // #region prompts
  await embed('where is it?', { promptName: 'query' }); // one of the model's named prompts
  await embed('where is it?', { prompt: 'query: ' }); // any text; '' for none
  // #endregion prompts
  const { data } = await embed('where is it?', { promptName: 'query' });
  expect(data).toEqual((await embed('where is it?', { prompt: 'query: ' })).data);
  expect(data).not.toEqual(plain.data);
});

it('continues texts and conversations', async () => {
  const storage = await characterDecoder('gpt2', sonnet, ['<|im_end|>']);
  const template = '{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}';
  await storage.write('tiny/chat_template.jinja', new TextEncoder().encode(template));
  const writer = await fromPretrained('tiny', { storage, task: 'causal-lm' });
  const pieces: string[] = [];
  const open: typeof pipeline = (task, _, options) => pipeline(task, writer, options);
  {
    const pipeline = open;
    // #region write
    const write = await pipeline('text-generation', 'my-writer');
    await write('Once upon a time', { maxNewTokens: 40 }); // [{ generated_text: 'Once upon a time ..' }]
    await write('Once upon a time', { returnFullText: false, onText: (piece) => void pieces.push(piece) }); // streams the text
    const [{ generated_text }] = await write([{ role: 'user', content: 'Who was it?' }]); // the conversation
    const answer = generated_text.at(-1)?.content; // its last message
    // #endregion write
    expect([generated_text.length, typeof answer]).toEqual([2, 'string']);
  }
});

it('ranks documents', async () => {
  // #region rank
  const rank = await pipeline('text-ranking', 'my-reranker');
  await rank('Who cooks?', ['The cook is Ann.', 'It rained.', 'Ann cooks.'], { topK: 2 }); // [{ index: 2, score: 0.9 }, ..]
  // #endregion rank
  expect((await rank('Who cooks?', ['It rained.', 'Ann cooks.'])).length).toBe(2);
});

it('several adapters share a model', async () => {
  // #region several
  const route = await pipeline('text-classification', 'base-model', {
    adapters: { support: 'adapters/support', sales: 'adapters/sales' },
  });
  await route(text); // uses the first adapter
  await route(text, { adapter: 'sales' });
  await route([text, text, text], { adapter: ['support', 'sales', '__base__'] }); // one adapter per text, in one batch
  // #endregion several
  expect((await route(text, { adapter: 'sales', topK: null })).map(({ label }) => label).sort()).toEqual([
    'lead',
    'none',
  ]);
});
