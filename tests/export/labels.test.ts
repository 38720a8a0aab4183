import {
  activeAdapter,
  attach,
  convertToLora,
  diskStorage,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  savePretrained,
} from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged, saveOnnx, type PretrainedModel } from '@peftjs/models';
import { beforeAll, describe, expect, it } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';
import { folder, tiny } from '../models/tiny.js';

const labels = ['angry', 'calm', 'glad'];
const id2label = { 0: 'angry', 1: 'calm', 2: 'glad' };
const label2id = { angry: 0, calm: 1, glad: 2 };

let named: PretrainedModel;
let unnamed: PretrainedModel;
beforeAll(async () => {
  named = await fromPretrained(bertFolder, { labels });
  unnamed = await fromPretrained(bertFolder);
});

async function saved(model: PretrainedModel): Promise<{ storage: ReturnType<typeof memoryStorage>; config: Fields }> {
  const storage = memoryStorage();
  await savePretrained(attach(model, lora({ r: 2 })), 'adapter', { storage });
  return { storage, config: await json(storage, 'adapter/adapter_config.json') };
}

type Fields = Record<string, unknown>;

async function json(storage: ReturnType<typeof memoryStorage>, file: string): Promise<Fields> {
  return JSON.parse(new TextDecoder().decode(await storage.read(file))) as Fields;
}

async function loadedWith(fields: object, model = unnamed): Promise<readonly string[] | undefined> {
  const { storage, config } = await saved(unnamed);
  const changed = new TextEncoder().encode(JSON.stringify({ ...config, ...fields }));
  await storage.write('adapter/adapter_config.json', changed);
  return activeAdapter(await loadPretrained(model, 'adapter', { storage, methods: [lora] })).labels;
}

describe('class names', () => {
  it('are as many as the outputs, and set their number', async () => {
    expect(named).toMatchObject({ labels, outputs: 3 });
    expect(unnamed.labels).toBeUndefined();
    const two = { numLabels: 2, labels };
    await expect(fromPretrained(bertFolder, two)).rejects.toThrow(/expected 2 different labels, got angry, calm, glad/);
    await expect(fromPretrained(bertFolder, { labels: ['a', 'a'] })).rejects.toThrow(/expected 2 different labels/);
  });

  it('are saved with an adapter, in its configuration and its card', async () => {
    const { storage, config } = await saved(named);
    expect(config).toMatchObject({ id2label, label2id });
    const card = new TextDecoder().decode(await storage.read('adapter/README.md'));
    expect(card).toContain('0. `"angry"`\n1. `"calm"`\n2. `"glad"`\n');
  });

  it('come back with the adapter, whatever names the model has', async () => {
    expect(await loadedWith({ id2label })).toEqual(labels);
    const others = await fromPretrained(bertFolder, { labels: ['x', 'y', 'z'] });
    expect(await loadedWith({ id2label }, others)).toEqual(labels);
    expect(await loadedWith({}, others)).toEqual(['x', 'y', 'z']);
  });

  it('are optional in a folder', async () => {
    expect((await saved(unnamed)).config).not.toHaveProperty('id2label');
    expect(await loadedWith({})).toBeUndefined();
  });

  it.each([
    ['too few', { 0: 'a', 1: 'b' }],
    ['a gap', { 0: 'a', 1: 'b', 3: 'c' }],
    ['a name twice', { 0: 'a', 1: 'b', 2: 'a' }],
    ['numbers for names', { 0: 0, 1: 1, 2: 2 }],
    ['a text', 'abc'],
  ])('of a folder are rejected if they do not match the outputs: %s', async (_, wrong) => {
    await expect(loadedWith({ id2label: wrong })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: 'id2label' }),
    );
  });

  it('are kept when an adapter is merged or converted', () => {
    const peft = attach(named, lora({ r: 2 }));
    expect(mergeAndUnload(peft).labels).toEqual(labels);
    expect(activeAdapter(convertToLora(peft, { method: lora, rank: 2 })).labels).toEqual(labels);
  });

  it('are in the config.json of a merged model and of an ONNX folder, and come back from there', async () => {
    const storage = memoryStorage();
    const merged = mergeAndUnload(attach(named, lora({ r: 2 })));
    await saveMerged(merged, 'merged', { storage });
    await saveOnnx(merged, new Uint8Array(), 'onnx', { storage, maxTokens: 8 });
    expect(await json(storage, 'merged/config.json')).toMatchObject({ id2label, label2id });
    expect(await json(storage, 'onnx/config.json')).toMatchObject({ id2label, label2id });
    expect((await fromPretrained('merged', { storage })).labels).toEqual(labels);
    expect((await fromPretrained('merged', { storage, numLabels: 2 })).labels).toBeUndefined();
  });
});

describe('the meaning of outputs', () => {
  const problemType = 'multi_label_classification';

  it('is saved with an adapter, and after merging in other folders', async () => {
    const model = await fromPretrained(bertFolder, { labels, problemType });
    const { storage, config } = await saved(model);
    expect(config).toMatchObject({ id2label, problem_type: problemType });
    const loaded = await loadPretrained(unnamed, 'adapter', { storage, methods: [lora] });
    expect(activeAdapter(loaded).problemType).toBe(problemType);
    const merged = mergeAndUnload(loaded);
    await saveMerged(merged, 'merged', { storage, source: bertFolder, sourceStorage: diskStorage() });
    await saveOnnx(merged, new Uint8Array(1), 'onnx', {
      ...{ maxTokens: 8, storage, source: bertFolder },
      sourceStorage: diskStorage(),
    });
    for (const folder of ['merged', 'onnx']) {
      expect(await json(storage, `${folder}/config.json`)).toMatchObject({ id2label, problem_type: problemType });
    }
    expect(await fromPretrained('merged', { storage })).toMatchObject({ labels, problemType });
    expect(await fromPretrained('merged', { storage, numLabels: 2 })).not.toHaveProperty('problemType');
  });

  it("is one of transformers' names, and is a string", async () => {
    const wrong = 'multilabel' as never;
    await expect(fromPretrained(bertFolder, { problemType: wrong })).rejects.toThrow(
      "option 'problemType' is 'multilabel'; expected (\"single_label_classification\"",
    );
    const ofTokens = { task: 'token-classification', problemType } as const;
    await expect(fromPretrained(bertFolder, ofTokens)).rejects.toThrow("option 'problemType' is not for the task");
    await expect(loadedWith({ problem_type: 'multilabel' })).rejects.toThrow("problem_type is 'multilabel'");
    expect(await loadedWith({ problem_type: null })).toBeUndefined();
    await expect(loadedWith({ id2label: false })).rejects.toThrow('id2label is false');
    await expect(loadedWith({ problem_type: '' })).rejects.toThrow("problem_type is ''");
  });
});

it('a merged model is not saved without a bias that its adapter added', async () => {
  const source = folder(tiny('llama'), 'next');
  const llama = await fromPretrained('tiny', { storage: source, task: 'causal-lm' });
  const peft = attach(llama, lora({ r: 2, loraBias: true, targetModules: ['q_proj'] }));
  const saving = saveMerged(mergeAndUnload(peft), 'merged', { sourceStorage: source, storage: memoryStorage() });
  await expect(saving).rejects.toThrow(/adds a bias, and this model stores none there/);
});
