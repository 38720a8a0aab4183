// Graphs of images, saved with merged weights and a new head, in ONNX Runtime.
import { attach, hostTensor, memoryStorage, mergeAndUnload, predict, savePretrained } from '@peftjs/core';
import { relativeDistance } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromOnnx, saveOnnxGraph, type OnnxOptions } from '@peftjs/onnx';
import * as ort from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { adapted } from '../models/onnx.js';
import { visionFolder, visionGraph } from '../models/vision.js';

const shape = [2, 3, 8, 8];
const pixels = Float32Array.from({ length: 2 * 3 * 8 * 8 }, (_, place) => Math.sin(place));
const batch = {
  inputs: { pixelValues: hostTensor(pixels, shape) },
  rowWeights: hostTensor(Float32Array.of(1, 1), [2]),
  rows: [0, 1],
};

it.each<readonly [string, string, OnnxOptions]>([
  ['its own head', 'vit-traced', {}],
  ['a new head on the mean of all patches', 'vit-features', { labels: ['a', 'b'], pooling: 'mean' }],
  ['a new head on the class token', 'vit-features', { labels: ['a', 'b'], pooling: 'cls' }],
  ['a new head on an embedding', 'clip-vision-dynamo', { labels: ['a', 'b'] }],
])('a graph with %s computes what its adapter did', async (_, name, options) => {
  const storage = memoryStorage(new Map([['vision.onnx', visionGraph(name)]]));
  const peft = adapted(await fromOnnx('vision.onnx', { storage, ...options }));
  const expected = await predict(peft, [batch], { executor: compiled({ threads: 1 }) });
  await saveOnnxGraph(mergeAndUnload(peft), 'tuned.onnx', { storage });
  const session = await ort.InferenceSession.create(storage.files.get('tuned.onnx') ?? expect.fail('none'), {
    logSeverityLevel: 4,
  });
  const found = await session.run({ pixel_values: new ort.Tensor('float32', pixels, shape) });
  expect(session.outputNames).toEqual(['logits']);
  const logits = found['logits']?.data as Float32Array;
  expect(
    relativeDistance(
      logits,
      expected.flatMap((row) => [...row]),
    ),
  ).toBeLessThan(1e-5);
});

it('a folder gets the settings that transformers.js reads for the new classes, and no tokenizer', async () => {
  const storage = memoryStorage(visionFolder('vit'));
  await saveOnnxGraph(await fromOnnx('vit', { storage, labels: ['cat', 'dog', 'hen'] }), 'tuned', { storage });
  const written = [...storage.files.keys()].filter((path) => path.startsWith('tuned/'));
  expect(written.sort()).toEqual([
    'tuned/README.md',
    'tuned/config.json',
    'tuned/onnx/model.onnx',
    'tuned/preprocessor_config.json',
  ]);
  const text = (file: string): string => new TextDecoder().decode(storage.files.get(`tuned/${file}`));
  expect(JSON.parse(text('config.json'))).toMatchObject({
    model_type: 'vit',
    architectures: ['ViTForImageClassification'],
    id2label: { 0: 'cat', 1: 'dog', 2: 'hen' },
  });
  expect(text('README.md')).toContain('pipeline_tag: image-classification');
});

it('an adapter names no task of texts, so that PEFT opens it', async () => {
  const storage = memoryStorage(visionFolder('vit'));
  await savePretrained(attach(await fromOnnx('vit', { storage }), lora({ r: 2 })), 'adapter', { storage });
  const config = JSON.parse(new TextDecoder().decode(storage.files.get('adapter/adapter_config.json'))) as object;
  expect(config).toMatchObject({ task_type: null, modules_to_save: ['classifier'] });
});
