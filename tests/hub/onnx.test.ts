// ONNX graphs on the hub, in a repository as transformers.js has them.
import { memoryStorage } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import { fromOnnx, saveOnnxGraph } from '@peftjs/onnx';
import { onnxFormats } from '@peftjs/onnx/formats';
import { beforeEach, expect, it } from 'vitest';
import { bertFiles } from '../models/bert-tiny.js';
import { fixture } from '../models/onnx.js';
import { bertRepo, filesAsked, FIRST, useHub } from './harness.js';

const use = useHub();
const GRAPH = 'peftjs-tests/bert-onnx';
const { 'model.safetensors': _, ...beside } = bertFiles;

beforeEach(() => {
  const graphs = { 'onnx/model.onnx': fixture('bert-traced.onnx'), 'onnx/model_quantized.onnx': new Uint8Array(9) };
  use.hub.repos.push(bertRepo({ name: GRAPH, commits: { [FIRST]: { ...beside, ...graphs } } }));
});

it.each([
  ['fromOnnx by id', () => fromOnnx(GRAPH)],
  ['fromOnnx by file', () => fromOnnx(`${GRAPH}/onnx/model.onnx`)],
  ['fromPretrained', () => fromPretrained(GRAPH, { formats: onnxFormats() })],
])('%s downloads the graph, its settings and its tokenizer, and writes them for transformers.js', async (_, load) => {
  const storage = memoryStorage();
  const model = await load();
  await saveOnnxGraph(model, 'web', { storage });
  expect(filesAsked(use.hub).sort()).toEqual(['config.json', 'onnx/model.onnx', 'tokenizer.json']);
  expect(storage.files.get('web/onnx/model.onnx')).toEqual(fixture('bert-traced.onnx'));
});
