import {
  attach,
  fullPrecision,
  memoryStorage,
  mergeAndUnload,
  predict,
  type Batch,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import type { HostTensor } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromOnnx, mergedGraph, saveOnnxGraph, type OnnxOptions } from '@peftjs/onnx';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { bertFiles } from '../models/bert-tiny.js';
import {
  adapted,
  exported,
  exporters,
  featuresInMemory,
  graphInMemory,
  loadGraph,
  type Features,
} from '../models/onnx.js';
import { batchOf, load, tiny, tokenRows } from '../models/tiny.js';
import { trainingData } from '../peft/bert.js';

const executor = compiled({ threads: 1 });
const from = tiny('distilbert');
const batch = batchOf(from, 1);
const [bertBatch = batch] = trainingData.epoch(0) as Batch[];

const numbers = (rows: readonly Float32Array[]): number[] => rows.flatMap((row) => [...row]);
const outputs = async (model: Model | PeftModel, of = batch): Promise<number[]> =>
  numbers(await predict(model, [of], { executor }));

/** The first output of a graph in ONNX Runtime. */
async function inRuntime(
  bytes: Uint8Array,
  data?: Uint8Array,
  { inputs } = batch,
  beside = 'model.onnx_data',
): Promise<{ names: readonly string[]; values: number[] }> {
  const session = await ort.InferenceSession.create(bytes, {
    logSeverityLevel: 4,
    ...(data && { externalData: [{ path: beside, data }] }),
  });
  const integers = ({ data, shape }: HostTensor): ort.Tensor =>
    new ort.Tensor('int64', BigInt64Array.from(data, BigInt), [...shape]);
  const { inputIds, attentionMask, tokenTypeIds } = inputs as Record<string, HostTensor>;
  const all = { input_ids: inputIds, attention_mask: attentionMask, token_type_ids: tokenTypeIds };
  const results = await session.run(
    Object.fromEntries(
      Object.entries(all).flatMap(([name, given]) =>
        given && session.inputNames.includes(name) ? [[name, integers(given)] as const] : [],
      ),
    ),
  );
  const [name = ''] = session.outputNames;
  return { names: session.outputNames, values: [...(results[name]?.data as Float32Array)] };
}

function features(kind: Features, options: OnnxOptions = {}) {
  const storage = featuresInMemory(kind);
  return { storage, model: fromOnnx('graph', { storage, ...options }) };
}

describe('a graph with its own head', () => {
  const storage = graphInMemory('distilbert', 'traced');
  const original = storage.files.get('graph/model.onnx') ?? expect.fail('none');

  it('is saved with the merged weights; everything else keeps its bytes', async () => {
    const model = await fromOnnx('graph/model.onnx', { storage });
    const peft = adapted(model);
    const merged = mergeAndUnload(peft);
    const { changed, rounding } = await saveOnnxGraph(merged, 'tuned/model.onnx', { storage });
    const saved = storage.files.get('tuned/model.onnx') ?? expect.fail('none');
    expect(relativeDistance((await inRuntime(saved)).values, await outputs(peft))).toBeLessThan(1e-5);
    expect(rounding).toBe(0);
    expect(changed).toHaveLength(12 + 2 * 2); // the linear modules of both layers, and the head's
    const again = await fromOnnx('tuned/model.onnx', { storage });
    expect(again.weights).toEqual(merged.weights);
    const differing = saved.filter((byte, at) => byte !== original[at]).length;
    const bytes = 4 * (2 * (4 * 32 * 32 + 2 * 32 * 64) + 32 * 32 + 32 + 3 * 32 + 3);
    expect(saved).toHaveLength(original.length);
    expect(differing).toBeLessThanOrEqual(bytes);
  });

  it('is saved unchanged without changes', async () => {
    expect(await saveOnnxGraph(await fromOnnx('graph/model.onnx', { storage }), 'same.onnx', { storage })).toEqual({
      changed: [],
      rounding: 0,
    });
    expect(storage.files.get('same.onnx')).toEqual(original);
  });

  it('may get another number of labels', async () => {
    const peft = attach(await fromOnnx('graph/model.onnx', { storage, labels: ['a', 'b', 'c', 'd'] }), lora({ r: 2 }));
    await saveOnnxGraph(mergeAndUnload(peft), 'four.onnx', { storage });
    const { values } = await inRuntime(storage.files.get('four.onnx') ?? expect.fail('none'));
    expect(values).toHaveLength(3 * 4);
    expect(relativeDistance(values, await outputs(peft))).toBeLessThan(1e-5);
  });
});

const graphs = exported.flatMap((network) => exporters.map((exporter) => [network, exporter] as const));

it.each(graphs)('the saved graph gives the merged outputs: %s, %s', async (network, exporter) => {
  const own = network === 'bert' ? bertBatch : batchOf(tiny(network), 1);
  const model = await loadGraph(network, exporter);
  const peft = adapted(model);
  const { files } = await mergedGraph(mergeAndUnload(peft));
  const { values } = await inRuntime(files.get('model.onnx') ?? expect.fail('none'), undefined, own);
  const isDecoder = network === 'llama' || network === 'gpt2'; // with other numbers at padding
  const rows = (all: readonly number[]): readonly number[] =>
    isDecoder ? tokenRows(Float32Array.from(all), own) : all;
  expect(relativeDistance(rows(await outputs(peft, own)), rows(values))).toBeLessThan(1e-5);
  expect(relativeDistance(rows(await outputs(model, own)), rows(values))).toBeGreaterThan(0.01);
});

it('a folder for transformers.js is written beside nothing else', async () => {
  const storage = memoryStorage(
    new Map([
      ['at/onnx/model.onnx', graphInMemory('bert', 'traced').files.get('graph/model.onnx') ?? expect.fail('none')],
      ...Object.entries(bertFiles).flatMap(([name, bytes]) =>
        name === 'model.safetensors' ? [] : [[`at/${name}`, bytes] as const],
      ),
    ]),
  );
  await saveOnnxGraph(await fromOnnx('at', { storage }), 'web', { storage });
  const written = [...storage.files.keys()].filter((name) => name.startsWith('web/')).sort();
  expect(written).toEqual(
    ['README.md', 'config.json', 'onnx/model.onnx', 'tokenizer.json', 'tokenizer_config.json'].map(
      (name) => `web/${name}`,
    ),
  );
  expect(storage.files.get('web/onnx/model.onnx')).toEqual(storage.files.get('at/onnx/model.onnx'));
});

describe('hidden states', () => {
  it('have the embeddings of the checkpoint', async () => {
    const model = await features('features', { task: 'feature-extraction' }).model;
    const checkpoint = await load(from, 'classes', { task: 'feature-extraction' });
    expect(relativeDistance(await outputs(model), await outputs(checkpoint))).toBeLessThan(1e-5);
    expect(model.sites.map(({ path }) => path).sort()).toEqual(checkpoint.sites.map(({ path }) => path).sort());
  });

  it.each(['mean', 'cls'] as const)('get a new head on their %s, which is saved and read again', async (pooling) => {
    const { storage, model } = features('features', { numLabels: 2, pooling });
    const peft = adapted(await model);
    const merged = mergeAndUnload(peft);
    await saveOnnxGraph(merged, 'tuned/model.onnx', { storage });
    const { names, values } = await inRuntime(storage.files.get('tuned/model.onnx') ?? expect.fail('none'));
    expect(names).toEqual(['logits']);
    expect(relativeDistance(values, await outputs(peft))).toBeLessThan(1e-5);
    const again = await fromOnnx('tuned/model.onnx', { storage });
    expect(again).toMatchObject({ head: ['classifier'], pretrainedHead: true, outputs: 2 });
    expect(relativeDistance(await outputs(again), values)).toBeLessThan(1e-5);
  });

  it('of a language model get no head', async () => {
    const { storage, model } = features('features', { task: 'causal-lm' });
    const { changed } = await saveOnnxGraph(mergeAndUnload(adapted(await model)), 'tuned/model.onnx', { storage });
    expect(changed).not.toEqual([]);
  });

  it('in half precision are computed in float32, and merged weights are rounded', async () => {
    const { storage, model } = features('half', { numLabels: 2 });
    const peft = adapted(await model);
    const { rounding } = await saveOnnxGraph(mergeAndUnload(peft), 'tuned/model.onnx', { storage });
    expect(rounding).toBeGreaterThan(0);
    expect(rounding).toBeLessThan(1e-3);
    const again = await fromOnnx('tuned/model.onnx', { storage });
    expect(relativeDistance(await outputs(again), await outputs(peft))).toBeLessThan(1e-2);
  });

  it('with weights in another file are saved beside one', async () => {
    const { storage, model } = features('external', { numLabels: 2 });
    const peft = adapted(await model);
    await saveOnnxGraph(mergeAndUnload(peft), 'tuned/model.onnx', { storage });
    const [graph, data] = ['tuned/model.onnx', 'tuned/model.onnx_data'].map((path) => storage.files.get(path));
    const { values } = await inRuntime(graph ?? expect.fail('none'), data);
    expect(relativeDistance(values, await outputs(peft))).toBeLessThan(1e-5);
    expect(data).toHaveLength(storage.files.get('graph/model.onnx_data')?.length ?? NaN);
  });

  it.each(['graph/tuned.onnx', String.raw`graph\tuned.onnx`])('beside the source keep its data: %s', async (path) => {
    const { storage, model } = features('external', { numLabels: 2 });
    const peft = adapted(await model);
    const before = new Map(storage.files);
    await saveOnnxGraph(mergeAndUnload(peft), path, { storage });
    for (const [file, bytes] of before) expect(storage.files.get(file) === bytes, file).toBe(true);
    const data = storage.files.get(`${path}_data`);
    const { values } = await inRuntime(storage.files.get(path) ?? expect.fail('none'), data, batch, 'tuned.onnx_data');
    expect(relativeDistance(values, await outputs(peft))).toBeLessThan(1e-5);
  });

  it('held in 8 bits are refused; their original weights are saved', async () => {
    const { storage, model } = features('features', { numLabels: 2, dtype: 'q8' });
    const peft = adapted(await model);
    await expect(saveOnnxGraph((await model) as Model, 'tuned/model.onnx', { storage })).rejects.toThrow(
      /held in 8 bits/,
    );
    const whole = await fullPrecision(peft);
    await saveOnnxGraph(mergeAndUnload(whole), 'tuned/model.onnx', { storage });
    const { values } = await inRuntime(storage.files.get('tuned/model.onnx') ?? expect.fail('none'));
    expect(relativeDistance(values, await outputs(whole))).toBeLessThan(1e-5);
  });
});
