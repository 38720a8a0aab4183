// Graphs of a few nodes that exporters write and the larger fixtures do not have, read and saved, against ONNX Runtime.
import { attach, hostTensor, memoryStorage, mergeAndUnload, predict, type Model } from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromOnnx, mergedGraph, saveOnnxGraph, type OnnxOptions } from '@peftjs/onnx';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { written } from '../../packages/onnx/src/format/message.js';
import { floatsProto, intsProto, nodeProto, portProto } from '../../packages/onnx/src/write/protos.js';
import { modelProto } from '../../packages/onnx/test/model-proto.js';

const executor = compiled({ threads: 1 });
const ids = { inputIds: [1, 2, 3, 4], attentionMask: [1, 1, 1, 0] }; // [batch 2, tokens 2]
const batch = {
  inputs: {
    inputIds: { dtype: 'int32' as const, shape: [2, 2], data: Int32Array.from(ids.inputIds) },
    attentionMask: hostTensor(Float32Array.from(ids.attentionMask), [2, 2]),
  },
  rowWeights: hostTensor(Float32Array.of(1, 1), [2]),
  rows: [0, 1],
};

const [BOOL, WIDTH] = [9, 2];
const numbers = (name: string, ...shape: number[]): Uint8Array => {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, at) => Math.sin(at + name.length));
  return floatsProto(name, shape, data);
};
const zeros = (name: string, ...shape: number[]): Uint8Array =>
  floatsProto(name, shape, new Float32Array(shape.reduce((a, b) => a * b, 1)));

/** Token embeddings `x`, [batch, tokens, 2]. */
const words = {
  nodes: [nodeProto('Gather', ['words.weight', 'input_ids'], 'x', {}, '/words/Gather')],
  tensors: [numbers('words.weight', 5, WIDTH)],
};

interface Parts {
  readonly nodes: readonly Uint8Array[];
  readonly tensors: readonly Uint8Array[];
  readonly outputs: Readonly<Record<string, readonly (number | string)[]>>;
  /** Inputs beside the token IDs. */
  readonly inputs?: readonly Uint8Array[];
}

/** A storage with a graph on token embeddings. */
function stored({ nodes, tensors, outputs, inputs = [] }: Parts, file = 'graph/model.onnx') {
  const graph = {
    1: [...words.nodes, ...nodes],
    2: 'graph',
    5: [...words.tensors, ...tensors],
    11: [portProto('input_ids', ['b', 't'], 'int64'), ...inputs],
    12: Object.entries(outputs).map(([name, shape]) => portProto(name, shape)),
  };
  return memoryStorage(new Map([[file, modelProto(graph, 17)]]));
}

const outputs = async (model: Model): Promise<number[]> =>
  (await predict(model, [batch], { executor })).flatMap((row) => [...row]);

/** The inputs, the outputs and the first output's numbers of a graph in ONNX Runtime. */
async function inRuntime(bytes: Uint8Array | undefined) {
  const session = await ort.InferenceSession.create(bytes ?? expect.fail('none'), { logSeverityLevel: 4 });
  const all = { input_ids: ids.inputIds, attention_mask: ids.attentionMask };
  const given = Object.entries(all).flatMap(([name, data]) =>
    session.inputNames.includes(name)
      ? [[name, new ort.Tensor('int64', BigInt64Array.from(data, BigInt), [2, 2])] as const]
      : [],
  );
  const results = await session.run(Object.fromEntries(given));
  const { inputNames, outputNames } = session;
  return { inputNames, outputNames, values: [...(results[outputNames[0] ?? '']?.data as Float32Array)] };
}

/** A head on the mean of `x` in the graph itself, [batch, 2], with the name of its module. */
const headed = (name: string, bias = `${name}.bias`) => ({
  nodes: [
    nodeProto('Gather', ['x', 'first'], 'pooled', { axis: 1 }),
    nodeProto('Reshape', ['pooled', 'flat'], 'features'),
    nodeProto('Gemm', ['features', `${name}.weight`, bias], 'logits', { transB: 1 }, `/${name}/Gemm`),
  ],
  tensors: [
    intsProto('first', [0]),
    intsProto('flat', [0, -1]),
    numbers(`${name}.weight`, 2, WIDTH),
    ...(bias === `${name}.bias` ? [numbers(bias, 2)] : []),
  ],
});

/** The keys of attention, [batch, 2, tokens]. */
const turned = Uint8Array.from([
  ...nodeProto('Transpose', ['x'], 'keys'),
  ...written({ 5: { 1: 'perm', 8: [0, 2, 1], 20: 7 } }),
]);

describe('a graph of a few nodes', () => {
  it('has a bias after a product with a transposed matrix that is not square', async () => {
    const storage = stored({
      nodes: [
        nodeProto('Transpose', ['fc.weight'], 'turned'),
        nodeProto('MatMul', ['x', 'turned'], 'product', {}, '/fc/MatMul'),
        nodeProto('Add', ['fc.bias', 'product'], 'y', {}, '/fc/Add'),
      ],
      tensors: [numbers('fc.weight', 3, WIDTH), numbers('fc.bias', 3)],
      outputs: { y: ['b', 't', 3] },
    });
    const model = await fromOnnx('graph', { storage, task: 'feature-extraction' });
    expect(model.sites.find(({ path }) => path === 'fc')).toMatchObject({ outFeatures: 3, hasBias: true });
  });

  it.each([
    ['one', 'p'],
    ['each', 'a'],
  ])('may have two products with one matrix, and a bias on %s', async (_, left) => {
    const storage = stored({
      nodes: [
        nodeProto('Tanh', ['x'], 'tanh'),
        nodeProto('MatMul', ['x', 'fc.weight'], 'p'),
        nodeProto('MatMul', ['tanh', 'fc.weight'], 'q'),
        nodeProto('Add', ['p', 'other.bias'], 'a'),
        nodeProto('Add', ['q', 'fc.bias'], 'b'),
        nodeProto('Mul', [left, 'b'], 'z'),
        nodeProto('Gather', ['z', 'first'], 'y', { axis: 1 }),
      ].filter((_, at) => left === 'a' || at !== 3),
      tensors: [
        numbers('fc.weight', WIDTH, WIDTH),
        numbers('fc.bias', WIDTH),
        numbers('other.bias', WIDTH),
        intsProto('first', [0]),
      ],
      outputs: { y: ['b', 1, WIDTH] },
    });
    const { values } = await inRuntime(storage.files.get('graph/model.onnx'));
    const model = await fromOnnx('graph', { storage, task: 'feature-extraction', pooling: 'cls' });
    expect(relativeDistance(await outputs(model), values)).toBeLessThan(1e-6);
  });

  it.each([0, -2, -100, -1e4, -Infinity])('may choose %f in place of a score', async (low) => {
    const storage = stored({
      nodes: [
        turned,
        nodeProto('MatMul', ['x', 'keys'], 'scores'),
        nodeProto('Cast', ['attention_mask'], 'seen', { to: BOOL }),
        nodeProto('Unsqueeze', ['seen', 'row'], 'mask'),
        nodeProto('Where', ['mask', 'scores', 'low'], 'masked'),
        nodeProto('Softmax', ['masked'], 'p', { axis: -1 }),
        nodeProto('MatMul', ['p', 'x'], 'attended'),
        nodeProto('Gather', ['attended', 'first'], 'y', { axis: 1 }),
      ],
      tensors: [intsProto('row', [1]), floatsProto('low', [1], Float32Array.of(low)), intsProto('first', [0])],
      inputs: [portProto('attention_mask', ['b', 't'], 'int64')],
      outputs: { y: ['b', 1, WIDTH] },
    });
    const { values } = await inRuntime(storage.files.get('graph/model.onnx'));
    const model = await fromOnnx('graph', { storage, task: 'feature-extraction', pooling: 'cls' });
    expect(relativeDistance(await outputs(model), values)).toBeLessThan(1e-6);
  });
});

/** Reads a graph, and returns how it is saved. */
async function saved(parts: Parts, options: OnnxOptions) {
  const storage = stored(parts);
  const model = await fromOnnx('graph', { storage, ...options });
  await saveOnnxGraph(model, 'tuned/model.onnx', { storage });
  return { model, storage, ...(await inRuntime(storage.files.get('tuned/model.onnx'))) };
}

const hidden = ['b', 't', WIDTH];
const product = nodeProto('MatMul', ['x', 'fc.weight (in, out)'], 'y', {}, '/fc/MatMul');
const matrix = numbers('fc.weight (in, out)', WIDTH, WIDTH);

describe('a new head', () => {
  it('takes the place of one that the graph has on the same features', async () => {
    const { nodes, tensors } = headed('classifier');
    const parts = { nodes, tensors, outputs: { logits: ['b', 2], x: hidden } };
    const own = await saved(parts, { output: 'x', labels: ['a', 'b', 'c'] });
    expect(own).toMatchObject({ inputNames: ['input_ids', 'attention_mask'], outputNames: ['logits'] });
    expect(relativeDistance(own.values, await outputs(own.model))).toBeLessThan(1e-6);
    const again = await fromOnnx('tuned', { storage: own.storage });
    expect(again).toMatchObject({ head: ['classifier'], outputs: 3 });
    expect(relativeDistance(await outputs(again), own.values)).toBeLessThan(1e-6);
  });

  it('may read the logits of another', async () => {
    const { nodes, tensors } = headed('score', 'classifier.bias');
    const parts = { nodes, tensors: [...tensors, numbers('classifier.bias', 2)], outputs: { logits: ['b', 2] } };
    const { model, outputNames, values } = await saved(parts, { newHead: true, labels: ['a', 'b', 'c'] });
    expect(outputNames).toEqual(['logits']);
    expect(relativeDistance(values, await outputs(model))).toBeLessThan(1e-6);
  });

  it('is refused on a module with the same name', async () => {
    const storage = stored({ ...headed('classifier'), outputs: { logits: ['b', 2] } });
    await expect(fromOnnx('graph', { storage, newHead: true })).rejects.toThrow(
      /'logits' depends on a module named 'classifier', the name of the new head: choose an earlier output/,
    );
  });

  it('on the mean of tokens adds the mask that the graph does not read', async () => {
    const parts = { nodes: [product], tensors: [matrix], outputs: { y: hidden } };
    const { model, inputNames, values } = await saved(parts, { labels: ['a', 'b'] });
    expect(inputNames).toEqual(['input_ids', 'attention_mask']);
    expect(relativeDistance(values, await outputs(model))).toBeLessThan(1e-6);
  });
});

it('initializers that are inputs too are declared with their new shapes', async () => {
  const inputs = [portProto('classifier.weight', [2, WIDTH]), portProto('classifier.bias', [2])];
  const parts = { ...headed('classifier'), inputs, outputs: { logits: ['b', 2] } };
  const { model, values } = await saved(parts, { labels: ['a', 'b', 'c'] });
  expect(relativeDistance(values, await outputs(model))).toBeLessThan(1e-6);
});

it.each(['fc', 'other'])("a tensor of two modules, of which only '%s' changed, is refused", async (changed) => {
  const module = (name: string, x: string, y: string) => [
    nodeProto('MatMul', [x, `${name}.weight (in, out)`], `${name} product`, {}, `/${name}/MatMul`),
    nodeProto('Add', [`${name} product`, 'fc.bias'], y, {}, `/${name}/Add`),
  ];
  const storage = stored({
    nodes: [...module('fc', 'x', 'z'), ...module('other', 'z', 'y')],
    tensors: [matrix, numbers('other.weight (in, out)', WIDTH, WIDTH), zeros('fc.bias', WIDTH)],
    outputs: { y: hidden },
  });
  const model = await fromOnnx('graph', { storage, task: 'feature-extraction' });
  const weights = { ...model.weights, [`${changed}.bias`]: hostTensor(Float32Array.of(1, 2), [WIDTH]) };
  await expect(mergedGraph({ ...model, weights })).rejects.toThrow(
    /readers of the tensor 'fc.bias' were changed differently/,
  );
});

it('a tensor that a node without a module reads too cannot change', async () => {
  const nodes = [
    nodeProto('MatMul', ['x', 'fc.weight'], 'p', {}, '/fc/MatMul'),
    nodeProto('Add', ['p', 'fc.bias'], 'z', {}, '/fc/Add'),
    nodeProto('Mul', ['z', 'fc.bias'], 'y'),
  ];
  const tensors = [numbers('fc.weight', WIDTH, WIDTH), numbers('fc.bias', WIDTH)];
  const storage = stored({ nodes, tensors, outputs: { y: hidden } });
  const model = await fromOnnx('graph', { storage, task: 'feature-extraction' });
  const weights = { ...model.weights, 'fc.bias': hostTensor(Float32Array.of(1, 2), [WIDTH]) };
  await expect(mergedGraph({ ...model, weights })).rejects.toThrow(/readers of the tensor 'fc.bias'/);
});

it.each([
  ['model_O1.onnx', 'model.onnx'],
  ['model_fp16.onnx', 'model_fp16.onnx'],
])('transformers.js finds %s as %s', async (file, name) => {
  const storage = stored({ nodes: [product], tensors: [matrix], outputs: { y: hidden } }, `graph/${file}`);
  const model = await fromOnnx(`graph/${file}`, { storage, labels: ['a', 'b'] });
  const merged = mergeAndUnload(attach(model, lora({ r: 1, targetModules: ['fc'] })));
  expect([...(await mergedGraph(merged)).files.keys()]).toEqual([name]);
});
