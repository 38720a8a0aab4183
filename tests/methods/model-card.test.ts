// The model card of a saved adapter, read as the hub reads it: front matter in YAML, then Markdown.
import {
  activeAdapter,
  attach,
  memoryStorage,
  savePretrained,
  withAdapter,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { hostTensor } from '@peftjs/core';
import type { ConfiguredMethod } from '@peftjs/core/method';
import type { SaveOptions } from '@peftjs/core/model';
import { ia3, houlsby } from '@peftjs/baselines';
import { toyModel } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import MarkdownIt from 'markdown-it';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const FOLDER = '/home/me/my adapter';

async function cardOf(peft: PeftModel, options: SaveOptions = {}, storage = memoryStorage()): Promise<string> {
  await savePretrained(peft, FOLDER, { storage, ...options });
  return new TextDecoder().decode(await storage.read(`${FOLDER}/README.md`));
}

const on = (model: Partial<Model>, method: ConfiguredMethod = lora({ r: 2 })): PeftModel =>
  attach({ ...toyModel(), ...model }, method);

/** The parts of a card: its front matter, and the tokens of its Markdown. */
function read(card: string) {
  const [, head = '', body = ''] = /^---\n(.*?)\n---\n(.*)$/s.exec(card) ?? [];
  const tokens = new MarkdownIt().parse(body, {});
  const after = (type: string): string[] =>
    tokens.flatMap((token, at) => (token.type === type ? [tokens[at + 1]?.content ?? ''] : []));
  const cells = after('td_open');
  return {
    front: parse(head) as Record<string, unknown>,
    headings: after('heading_open'),
    facts: Object.fromEntries(cells.flatMap((cell, at) => (at % 2 === 0 ? [[cell, cells[at + 1] ?? '']] : []))),
    items: after('list_item_open').length,
    code: Object.fromEntries(tokens.flatMap(({ type, info, content }) => (type === 'fence' ? [[info, content]] : []))),
  };
}

const facts = {
  data: 'my reviews',
  training: { 'training rows': 540, seed: 7 },
  metrics: { accuracy: 0.93333333, macroF1: 0.9 },
  heldOutRows: 60,
  license: 'mit',
} as const;

describe('a model card', () => {
  it('says what the adapter is for, how it was made, how well it does and how to use it', async () => {
    const model = { name: 'org/base', commit: 'abc123', labels: ['bad', 'so|so', 'a `good`\none'] };
    const { front, headings, facts: shown, items, code } = read(await cardOf(on(model), { card: facts }));
    expect(front).toEqual({
      base_model: 'org/base',
      library_name: 'peft',
      license: 'mit',
      pipeline_tag: 'text-classification',
      tags: ['peftjs', 'lora'],
      'model-index': [
        {
          name: 'my adapter',
          results: [
            {
              task: { type: 'text-classification' },
              dataset: { name: 'my reviews', type: 'my-reviews' },
              metrics: [
                { type: 'accuracy', value: 0.93333333 },
                { type: 'macroF1', value: 0.9 },
              ],
            },
          ],
        },
      ],
    });
    expect(headings).toEqual(['An adapter for `org/base`', 'Results', 'Classes', 'Use']);
    expect(shown).toMatchObject({
      'base model': '`org/base`, revision `abc123`',
      method: '`lora`, saved as `LORA`',
      settings: expect.stringContaining('`r: 2`, `loraAlpha: 8`') as string,
      parameters: expect.stringMatching(/^[\d,]+ on 10 modules, \d+\.\d{3} % of the base$/) as string,
      'trained in full': '`classifier`',
      data: '`my reviews`',
      'training rows': '540',
      seed: '7',
      '`accuracy`': '0.9333',
    });
    expect(items).toBe(3);
    expect(Object.keys(code)).toEqual(['js', 'sh', 'python']);
    expect(code['js']).toContain('pipeline("text-classification", "my adapter");');
    expect(code['python']).toContain('from_pretrained("org/base", revision="abc123", num_labels=3)');
  });

  it.each(['/home/me/models/toy', 'C:\\models\\toy', '../toy/', '/models/toy/onnx/model.onnx'])(
    'names a base in %s by its folder only, and asks for it',
    async (name) => {
      const card = await cardOf(on({ name }));
      const { front, facts: shown, code } = read(card);
      expect(front).not.toHaveProperty('base_model');
      expect(shown['base model']).toBe('`toy`');
      expect(card).not.toMatch(/home|models|\.\./);
      expect(code['js']).toContain('{ model: "toy" }');
      expect(code['sh']).toBe('npx peftjs predict "my adapter" --model "toy" "some text"\n');
    },
  );

  it.each<[string, Partial<Model>, RegExp]>([
    ['text-classification', {}, /^It gives a text a class\.$/m],
    ['text-classification', { problemType: 'multi_label_classification' }, /^It gives a text any number of labels\.$/m],
    ['text-classification', { problemType: 'regression' }, /^It gives a text a number\.$/m],
    ['token-classification', { task: 'token-classification' }, /^It tags the words of a text\.$/m],
    ['text-generation', { task: 'causal-lm' }, /^It continues texts\.$/m],
    [
      'text-generation',
      { task: 'causal-lm', isChat: true },
      /^It answers messages: .*role: "user".*apply_chat_template/ms,
    ],
    ['feature-extraction', { task: 'feature-extraction' }, /^It turns a text into a vector/m],
    [
      'image-classification',
      { axes: { pixelValues: ['batch'] } },
      /^It gives an image a class\..*adapter\("photo\.jpg"\)/ms,
    ],
  ])('is tagged %s with its purpose for %j', async (tag, model, purpose) => {
    const card = await cardOf(on(model));
    expect(read(card).front['pipeline_tag']).toBe(tag);
    expect(card).toMatch(purpose);
  });

  it.each<[boolean, string, ConfiguredMethod, Partial<Model>, SaveOptions]>([
    [true, 'LoRA', lora({ r: 1 }), {}, {}],
    [true, 'pruned SoRA', sora({ r: 1 }), {}, {}],
    [true, "a type of PEFT's own", ia3({}), {}, {}],
    [false, 'SoRA to be trained further', sora({ r: 1 }), {}, { pruned: false }],
    [false, 'a type that PEFT does not have', houlsby({}), {}, {}],
    [false, 'a base from npm', lora({ r: 1 }), { name: '@scope/model' }, {}],
    [false, 'a GGUF file', lora({ r: 1 }), { name: '/models/a.gguf' }, {}],
  ])('has lines of Python (%s) for %s', async (isThere, _, method, model, options) => {
    expect('python' in read(await cardOf(on(model, method), options)).code).toBe(isThere);
  });

  it('lists the ranks where they differ', async () => {
    const peft = on({}, sora({ r: 2, targetModules: ['query'] }));
    expect(read(await cardOf(peft)).headings).not.toContain('Ranks');
    const gate = 'encoder.layer.1.attention.query.gate';
    const values = { ...activeAdapter(peft).values, [gate]: hostTensor(Float32Array.of(0, 1), [2]) };
    const { headings, facts: ranks } = read(await cardOf(withAdapter(peft, { values })));
    expect(headings).toContain('Ranks');
    expect(ranks).toMatchObject({ '`encoder.layer.0.attention.query`': '2', '`encoder.layer.1.attention.query`': '1' });
  });

  it('is written again with the adapter, unless someone has edited it or it is of another program', async () => {
    const storage = memoryStorage();
    const first = await cardOf(on({}), {}, storage);
    const second = await cardOf(on({ labels: ['a', 'b', 'c'] }), {}, storage);
    expect(second).not.toBe(first);
    for (const own of [second.replace('# An adapter', '# My adapter'), '# Notes\n', '']) {
      await storage.write(`${FOLDER}/README.md`, new TextEncoder().encode(own));
      expect(await cardOf(on({}), {}, storage)).toBe(own);
    }
  });

  it('is refused facts that it does not know', async () => {
    await expect(cardOf(on({}), { card: { metric: {} } as object })).rejects.toThrow(
      /option 'card\.metric' is unknown/,
    );
  });
});
