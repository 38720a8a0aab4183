import {
  activeAdapter,
  addAdapter,
  countParameters,
  deleteAdapter,
  disableAdapter,
  getPeftModelStateDict,
  loadAdapter,
  memoryStorage,
  mergeAdapter,
  savePretrained,
  setAdapter,
  setPeftModelStateDict,
  unmergeAdapter,
} from '@peftjs/core';
import { UnsupportedError, type ConfiguredMethod, type PeftMethod } from '@peftjs/core/method';
import { farthestTensor, relativeDistance } from '@peftjs/conformance';
import { adalora } from '@peftjs/adalora';
import { bitfit, full, houlsby, ia3 } from '@peftjs/baselines';
import { attachLayers, detachLayers, loadLayers, mergeLayers } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  artifactsOf,
  compileFor,
  imageModel,
  imageRows,
  methods,
  onCpu,
  outputsOf,
  weightsOf,
  type Rows,
} from './models.js';

let rows: Rows;

beforeAll(async () => {
  await onCpu();
  rows = imageRows(24);
});

const known: PeftMethod[] = [lora, adalora, sora, full, bitfit, ia3];

/** A model with a trained adapter. */
async function trained(configured: ConfiguredMethod, head?: string) {
  const model = imageModel();
  const peft = attachLayers(model, configured, { seed: 4, ...(head && { head }) });
  compileFor(model, tf.train.adam(0.03));
  await model.fit(rows.x, rows.y, { batchSize: 8, epochs: 6 });
  return { model, peft, outputs: outputsOf(model, rows.x) };
}

describe('savePretrained and loadLayers', () => {
  it.each(Object.entries(methods))('keep the outputs: %s', async (_name, configured) => {
    const { peft, outputs } = await trained(configured, 'dense2');
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage });
    const other = imageModel();
    const again = await loadLayers(other, 'adapter', { storage, methods: known, head: 'dense2' });
    expect(relativeDistance(outputsOf(other, rows.x), outputs)).toBeLessThan(1e-5);
    expect(countParameters(again).stored).toBe(countParameters(peft).stored);
  });

  it("write the factors of a convolution as PEFT's: A [r, in, height, width], B [out, r, 1, 1]", async () => {
    const { peft } = await trained(lora({ r: 2 }));
    const file = getPeftModelStateDict(peft);
    const shapes = Object.fromEntries(
      Object.entries(file).map(([key, { shape }]) => [key.replace('base_model.model.', ''), shape]),
    );
    expect(shapes).toMatchObject({
      'conv2.lora_A.weight': [2, 4, 3, 2],
      'conv2.lora_B.weight': [6, 2, 1, 1],
      'dense1.lora_A.weight': [2, 36],
      'dense1.lora_B.weight': [8, 2],
    });
    // The kernel is [height, width, in, out] here and [out, in, height, width] in torch.
    const inTorch = file['base_model.model.conv2.lora_A.weight']?.data as Float32Array;
    const here = activeAdapter(peft).values['conv2.loraA']?.data as Float32Array;
    const [rank, height, width, channel] = [1, 2, 0, 3];
    expect(inTorch[((rank * 4 + channel) * 3 + height) * 2 + width]).toBe(
      here[((height * 2 + width) * 4 + channel) * 2 + rank],
    );
  });
});

describe('save', () => {
  it('does not change the model and its adapters', async () => {
    const { model, peft, outputs } = await trained(lora({ r: 2 }));
    const [weights, values] = [weightsOf(model), activeAdapter(peft).values];
    await artifactsOf(model);
    expect(weightsOf(model)).toEqual(weights);
    expect(activeAdapter(peft).values).toBe(values);
    expect(outputsOf(model, rows.x)).toEqual(outputs);
  });

  it('writes the originally trainable weights if only trainable ones are requested', async () => {
    const model = imageModel();
    model.getLayer('conv1').trainable = false;
    const bare = await artifactsOf(model, { trainableOnly: true });
    attachLayers(model, lora({ r: 2 }));
    const { weightSpecs } = await artifactsOf(model, { trainableOnly: true });
    expect(weightSpecs).toEqual(bare.weightSpecs);
    expect(weightSpecs).toHaveLength(6);
  });

  it('rejects what a merged model cannot hold', async () => {
    const { model } = await trained(lora({ r: 2 }));
    await expect(artifactsOf(model, { includeOptimizer: true })).rejects.toThrow(UnsupportedError);
    detachLayers(model);
    attachLayers(model, houlsby({ bottleneck: 2, targetModules: ['dense1'] }));
    await expect(artifactsOf(model)).rejects.toThrow(/houlsby cannot be merged/);
    expect(() => mergeLayers(model)).toThrow(UnsupportedError);
    expect(() => attachLayers(model, lora())).toThrow(/has adapters already/);
  });
});

describe('mergeLayers', () => {
  it('refuses a bias for a layer without one, and changes nothing', () => {
    const model = tf.sequential({ layers: [tf.layers.dense({ units: 3, useBias: false, inputShape: [4] })] });
    attachLayers(model, lora({ r: 2, loraBias: true }));
    const before = model.getWeights().map((weight) => [...weight.dataSync()]);
    expect(() => mergeLayers(model)).toThrow(/adds a bias, and the layer has none/);
    expect(model.getWeights().map((weight) => [...weight.dataSync()])).toEqual(before);
  });

  it('and save fold the adapter into weights that were set after it was attached', async () => {
    const { model } = await trained(lora({ r: 2 }));
    await artifactsOf(model);
    model.setWeights(model.getWeights().map((weight) => tf.mul(weight, 2)));
    const outputs = outputsOf(model, rows.x);
    const saved = await tf.loadLayersModel(tf.io.fromMemory(await artifactsOf(model)));
    expect(relativeDistance(outputsOf(saved, rows.x), outputs)).toBeLessThan(1e-5);
    mergeLayers(model);
    expect(relativeDistance(outputsOf(model, rows.x), outputs)).toBeLessThan(1e-5);
  });

  it('folds the adapter into the layers, which the model then trains again', async () => {
    const { model, outputs } = await trained(lora({ r: 2 }), 'dense2');
    mergeLayers(model);
    expect(relativeDistance(outputsOf(model, rows.x), outputs)).toBeLessThan(1e-5);
    expect(Object.keys(weightsOf(model))).toHaveLength(8);
    const merged = weightsOf(model);
    compileFor(model);
    await model.fit(rows.x, rows.y, { epochs: 1 });
    for (const [name, values] of Object.entries(weightsOf(model))) expect(values, name).not.toEqual(merged[name]);
  });
});

describe('the functions of @peftjs/core act on the model', () => {
  it('setAdapter, disableAdapter, deleteAdapter, several at once', async () => {
    const { model, peft, outputs } = await trained(lora({ r: 2 }));
    const bare = outputsOf(imageModel(), rows.x);
    await disableAdapter(peft, () => expect(outputsOf(model, rows.x)).toEqual(bare));
    expect(outputsOf(model, rows.x)).toEqual(outputs);

    addAdapter(peft, lora({ r: 3, initLoraWeights: false, targetModules: ['dense1', 'conv2'] }), {
      adapterName: 'other',
    });
    expect(outputsOf(model, rows.x)).toEqual(outputs);
    setAdapter(peft, 'other');
    const other = outputsOf(model, rows.x);
    expect(relativeDistance(other, outputs)).toBeGreaterThan(0.01);
    setAdapter(peft, ['default', 'other']);
    const both = outputsOf(model, rows.x);
    expect(relativeDistance(both, other)).toBeGreaterThan(0.01);

    mergeAdapter(peft);
    expect(relativeDistance(outputsOf(model, rows.x), both)).toBeLessThan(1e-5);
    unmergeAdapter(peft);
    expect(outputsOf(model, rows.x)).toEqual(both);
    setAdapter(peft, 'default');
    deleteAdapter(peft, 'default');
    expect(outputsOf(model, rows.x)).toEqual(other);
    deleteAdapter(peft, 'other');
    expect(outputsOf(model, rows.x)).toEqual(bare);
    expect(model.weights).toHaveLength(8);
  });

  it('the state dict and loadAdapter, which set the values of the layers', async () => {
    const { model, peft, outputs } = await trained(lora({ r: 2 }));
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage });
    const state = getPeftModelStateDict(peft);
    const other = imageModel();
    const fresh = attachLayers(other, lora({ r: 2 }), { seed: 9 });
    setPeftModelStateDict(fresh, state);
    expect(outputsOf(other, rows.x)).toEqual(outputs);

    await loadAdapter(peft, 'adapter', { storage, methods: [lora], adapterName: 'copy' });
    setAdapter(peft, 'copy');
    expect(outputsOf(model, rows.x)).toEqual(outputs);
    expect(farthestTensor(getPeftModelStateDict(peft), state).distance).toBe(0);
  });

  it('but its network only runs by its own methods', () => {
    const { model } = attachLayers(imageModel(), lora());
    expect(() => model.forward({} as never, {})).toThrow(/use its own fit/);
  });
});

describe('memory', () => {
  it('holds no additional tensors once the adapters are detached or the model is disposed of', async () => {
    const model = imageModel();
    outputsOf(model, rows.x);
    const before = tf.memory().numTensors;
    for (const configured of [methods.pissa, methods.adalora, methods['sora with a budget and dropout']]) {
      attachLayers(model, configured as ConfiguredMethod);
      const optimizer = tf.train.sgd(0.01);
      compileFor(model, optimizer);
      const attached = tf.memory().numTensors;
      await model.fit(rows.x, rows.y, { batchSize: 8, epochs: 2 });
      await artifactsOf(model);
      outputsOf(model, rows.x);
      expect(tf.memory().numTensors).toBe(attached);
      detachLayers(model);
      optimizer.dispose();
      expect(tf.memory().numTensors).toBe(before);
    }
    attachLayers(model, methods.pissa as ConfiguredMethod);
    mergeLayers(model);
    expect(tf.memory().numTensors).toBe(before);
    attachLayers(model, methods.pissa as ConfiguredMethod);
    model.dispose();
    expect(tf.memory().numTensors).toBe(before - 8);
  });
});
