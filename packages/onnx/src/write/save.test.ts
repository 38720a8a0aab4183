import { memoryStorage } from '@peftjs/core';
import { hostZeros, UnsupportedError } from '@peftjs/core/method';
import * as ort from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { modelProto } from '../../test/model-proto.js';
import { written, type Part } from '../format/message.js';
import { fromOnnx, saveOnnxGraph, type OnnxOptions } from '../index.js';
import { floatsProto, nodeProto, portProto } from './protos.js';

const ids: Part = [11, portProto('input_ids', ['batch', 'tokens'], 'int64')];
const read: Part = [1, nodeProto('Gather', ['words.weight', 'input_ids'], 'x')];
const words: Part = [5, floatsProto('words.weight', [4, 2], new Float32Array(8))];

/** A storage with a graph, and its model. */
async function opened(graph: readonly Part[], options: OnnxOptions = {}) {
  const bytes = modelProto([[2, 'graph'], ids, read, words, ...graph], 17);
  const storage = memoryStorage(
    new Map([
      ['model.onnx', bytes],
      ['data', new Uint8Array(16)],
    ]),
  );
  return { storage, model: await fromOnnx('model.onnx', { storage, task: 'feature-extraction', ...options }) };
}

/** A matrix in the first bytes of the file `data`. */
function beside(name: string): Part {
  return [5, written({ 1: [2, 2], 2: 1, 8: name, 13: { 1: 'location', 2: 'data' }, 14: 1 })];
}

it('a new head reads features in half precision', async () => {
  const half: Part[] = [
    [1, nodeProto('Cast', ['x'], 'y', { to: 10 })],
    [12, portProto('y', ['batch', 'tokens', 2], 'float16')],
  ];
  const { storage, model } = await opened(half, { task: 'sequence-classification', numLabels: 2 });
  await saveOnnxGraph(model, 'tuned.onnx', { storage });
  const session = ort.InferenceSession.create(await storage.read('tuned.onnx'), { logSeverityLevel: 4 });
  await expect(session).resolves.toMatchObject({ outputNames: ['logits'] });
});

it('logits in half precision keep their type with another number of labels', async () => {
  const { storage, model } = await opened(
    [
      [5, floatsProto('classifier.weight', [2, 2], new Float32Array(4))],
      [1, nodeProto('MatMul', ['x', 'classifier.weight'], 'h')],
      [1, nodeProto('Cast', ['h'], 'logits', { to: 10 })],
      [12, portProto('logits', ['batch', 'tokens', 2], 'float16')],
    ],
    { task: 'token-classification', numLabels: 3 },
  );
  await saveOnnxGraph(model, 'tuned.onnx', { storage });
  const session = ort.InferenceSession.create(await storage.read('tuned.onnx'), { logSeverityLevel: 4 });
  await expect(session).resolves.toMatchObject({ outputNames: ['logits'] });
});

const product: Part[] = [
  [1, nodeProto('MatMul', ['x', 'a.weight'], 'h')],
  [1, nodeProto('MatMul', ['h', 'b.weight'], 'y')],
  [12, portProto('y', ['batch', 'tokens', 2])],
];

it('the file and those beside it are replaced together', async () => {
  const { storage, model } = await opened([...product, beside('a.weight'), beside('b.weight')]);
  const writeFolders = () => Promise.reject(new UnsupportedError('full'));
  await expect(saveOnnxGraph(model, 'tuned.onnx', { storage: { ...storage, writeFolders } })).rejects.toThrow('full');
  expect([...storage.files.keys()]).toEqual(['model.onnx', 'data']);
});

it('the files of the source stay as they were, also a Buffer, as Node reads files', async () => {
  const { storage, model } = await opened([
    [1, nodeProto('MatMul', ['x', 'a.weight'], 'y')],
    [12, portProto('y', ['batch', 'tokens', 2])],
    beside('a.weight'),
  ]);
  const source = Buffer.alloc(16);
  storage.files.set('data', source);
  const weight = { ...hostZeros([2, 2]), data: Float32Array.of(1, 2, 3, 4) };
  const changed = { ...model, weights: { ...model.weights, 'a.weight': weight } };
  await saveOnnxGraph(changed, 'out/tuned.onnx', { storage });
  expect(source).toEqual(Buffer.alloc(16));
});

it('tensors in the same bytes of a file must change together', async () => {
  const { storage, model } = await opened([...product, beside('a.weight'), beside('b.weight')]);
  const weight = { ...hostZeros([2, 2]), data: Float32Array.of(1, 2, 3, 4) };
  const changed = { ...model, weights: { ...model.weights, 'a.weight': weight } };
  await expect(saveOnnxGraph(changed, 'tuned.onnx', { storage })).rejects.toThrow(
    /'b.weight' were changed differently/,
  );
});
