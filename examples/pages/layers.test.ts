// Code blocks of layers' README.
import { stat } from 'node:fs/promises';
import { activeAdapter, countParameters, savePretrained } from '@peftjs/core';
import { attachLayers, detachLayers, loadLayers, mergeLayers } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs';
import { beforeEach, expect, it } from 'vitest';
import { imageModel, imageRows, onCpu } from '../../tests/layers/models.js';
import { heard, useFolder } from './surroundings.js';

useFolder();
await onCpu();

const { x, y } = imageRows(8);
const saved: tf.io.ModelArtifacts[] = [];
const merged = tf.io.withSaveHandler((artifacts) => {
  saved.push(artifacts);
  return Promise.resolve({ modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(artifacts) });
});
let digits: tf.io.IOHandler;
beforeEach(async () => {
  saved.length = 0;
  await imageModel().save(merged);
  digits = tf.io.fromMemory(saved.pop() as tf.io.ModelArtifacts);
});

it('layers adapts a tf.LayersModel', async () => {
  const log = heard('log');
  // #region layers
  const { dense } = tf.layers; // a small model; load yours with tf.loadLayersModel
  const model = tf.sequential({
    layers: [dense({ inputShape: [4], units: 32, activation: 'relu' }), dense({ units: 3, activation: 'softmax' })],
  });
  const x = tf.randomNormal<tf.Rank.R2>([64, 4]);
  const y = tf.oneHot(tf.argMax(tf.slice(x, [0, 0], [64, 3]), 1), 3); // which of three features is the largest

  const peft = attachLayers(model, lora({ r: 2 }));
  model.compile({ optimizer: tf.train.adam(5e-3), loss: 'categoricalCrossentropy' });
  await model.fit(x, y, { epochs: 10 }); // trains only the adapter
  await savePretrained(peft, 'my-layers'); // the adapter, in PEFT's format
  console.log(countParameters(peft).stored); // the adapter's parameters
  // #endregion layers
  expect(log).toHaveBeenCalledExactlyOnceWith(2 * (4 + 32) + 2 * (32 + 3));
  expect((await stat('my-layers/adapter_model.safetensors')).size).toBeGreaterThan(0);
});

it('training the whole model', async () => {
  // #region before
  const model = await tf.loadLayersModel(digits);
  model.compile({ optimizer: tf.train.adam(5e-3), loss: 'categoricalCrossentropy' });
  await model.fit(x, y, { epochs: 10 }); // trains only the adapter; the model's weights stay bit-identical
  model.predict(x); // uses the adapter
  await model.save(merged); // a merged copy of the model, which runs without peftjs
  // #endregion before
  expect(saved).toHaveLength(1);
});

it('training only an adapter', async () => {
  const log = heard('log');
  // #region after
  const model = await tf.loadLayersModel(digits);
  const peft = attachLayers(model, lora({ r: 4 }));
  model.compile({ optimizer: tf.train.adam(5e-3), loss: 'categoricalCrossentropy' });
  await model.fit(x, y, { epochs: 10 }); // trains only the adapter; the model's weights stay bit-identical
  model.predict(x); // uses the adapter
  console.log(countParameters(peft).stored); // the adapter's parameters
  await savePretrained(peft, 'my-adapter'); // the adapter, in PEFT's format
  await model.save(merged); // a merged copy of the model, which runs without peftjs
  // #endregion after
  expect(log).toHaveBeenCalledWith(countParameters(peft).stored);
  const [plain = expect.fail('nothing is saved')] = saved;
  const copy = await tf.loadLayersModel(tf.io.fromMemory(plain));
  const [ours, theirs] = [model, copy].map((each) => (each.predict(x) as tf.Tensor).dataSync());
  for (const [at, value] of [...(ours ?? [])].entries()) expect(theirs?.[at]).toBeCloseTo(value, 4);
});

it('an adapter in another session', async () => {
  await savePretrained(attachLayers(await tf.loadLayersModel(digits), lora({ r: 4 }), { seed: 1 }), 'my-adapter');
  const model = await tf.loadLayersModel(digits);
  // #region session
  const peft = await loadLayers(model, 'my-adapter', { methods: [lora] });
  detachLayers(model); // removes the adapter

  await loadLayers(model, 'my-adapter', { methods: [lora] });
  mergeLayers(model); // merges the adapter into the weights permanently
  // #endregion session
  expect(activeAdapter(peft).method.name).toBe('lora');
  expect(() => {
    detachLayers(model);
  }).toThrow('has no adapters');
});
