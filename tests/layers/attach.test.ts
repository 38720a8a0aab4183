import { activeAdapter, countParameters } from '@peftjs/core';
import { ConfigError, TargetModuleError, UnsupportedError } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { head } from '@peftjs/baselines';
import { attachLayers, detachLayers, mergeLayers } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  compileFor,
  imageModel,
  imageRows,
  methods,
  onCpu,
  outputsOf,
  randomValues,
  savedAndLoaded,
  weightsOf,
} from './models.js';

beforeAll(onCpu);

const batch = { batchSize: 8, epochs: 2 };

describe('the layers of a model', () => {
  it('are modules by name: Dense [in, out], Conv2D [height * width * channels, out] with its kernel', () => {
    const { model } = attachLayers(imageModel(), lora());
    const shared = { kind: 'linear', role: 'other', hasBias: true };
    expect(model.sites).toEqual([
      { ...shared, path: 'conv1', inFeatures: 18, outFeatures: 4, kernel: [3, 3] },
      { ...shared, path: 'conv2', inFeatures: 24, outFeatures: 6, kernel: [3, 2] },
      { ...shared, path: 'dense1', inFeatures: 36, outFeatures: 8 },
      { ...shared, path: 'dense2', inFeatures: 8, outFeatures: 3 },
    ]);
  });

  it('are all adapted unless modules are named', () => {
    const paths = (options: Parameters<typeof lora>[0]) =>
      Object.keys(activeAdapter(attachLayers(imageModel(), lora(options))).layers);
    expect(paths({})).toEqual(['conv1', 'conv2', 'dense1', 'dense2']);
    expect(paths({ targetModules: 'all-linear', excludeModules: ['dense2'] })).toEqual(['conv1', 'conv2', 'dense1']);
    expect(paths({ targetModules: 'conv.*' })).toEqual(['conv1', 'conv2']);
    expect(() => paths({ targetModules: ['flatten'] })).toThrow(TargetModuleError);
  });

  it('are adapted in an inner model, shared by two branches, and in either data format', async () => {
    const inner = tf.sequential({
      name: 'inner',
      layers: [
        tf.layers.conv2d({
          name: 'conv',
          filters: 3,
          kernelSize: 2,
          dataFormat: 'channelsFirst',
          inputShape: [2, 5, 4],
        }),
        tf.layers.flatten({ name: 'flat' }),
      ],
    });
    const shared = tf.layers.dense({ name: 'shared', units: 4, activation: 'softplus' });
    const [left, right] = [tf.input({ shape: [2, 5, 4] }), tf.input({ shape: [2, 5, 4] })];
    const branches = [left, right].map((input) => shared.apply(inner.apply(input)) as tf.SymbolicTensor);
    const outputs = tf.layers.concatenate({ name: 'join' }).apply(branches) as tf.SymbolicTensor;
    const model = tf.model({ inputs: [left, right], outputs });
    const peft = attachLayers(model, lora({ r: 2, initLoraWeights: false }));
    expect(Object.keys(activeAdapter(peft).layers)).toEqual(['inner.conv', 'shared']);

    model.compile({ optimizer: tf.train.adam(0.02), loss: 'meanSquaredError' });
    const inputs = [1, 2].map((seed) => tf.tensor(randomValues(16 * 40, seed), [16, 2, 5, 4]));
    const { history } = await model.fit(inputs, tf.zeros([16, 8]), { epochs: 10, batchSize: 8 });
    expect(history.loss?.at(-1)).toBeLessThan(0.8 * (history.loss?.[0] as number));

    const adapted = (model.predict(inputs) as Tensor).dataSync();
    mergeLayers(model);
    expect(relativeDistance((model.predict(inputs) as Tensor).dataSync(), adapted)).toBeLessThan(1e-5);
  });
});

describe.each(Object.entries(methods))('%s on convolutions and dense layers', (_name, configured) => {
  it('trains, does not change the frozen weights, and saves to a model with the same outputs', async () => {
    const model = imageModel();
    const { x, y } = imageRows(32);
    const frozen = weightsOf(model);
    const [before, peft] = [outputsOf(model, x), attachLayers(model, configured, { seed: 2 })];
    expect(Object.keys(activeAdapter(peft).layers)).toEqual(['conv1', 'conv2', 'dense1', 'dense2']);
    expect(relativeDistance(outputsOf(model, x), before)).toBeLessThan(1e-5);

    compileFor(model);
    await model.fit(x, y, { ...batch, epochs: 4 });
    const adapted = outputsOf(model, x);
    expect(relativeDistance(adapted, before)).toBeGreaterThan(1e-3);

    const again = await savedAndLoaded(model);
    expect(relativeDistance(outputsOf(again, x), adapted)).toBeLessThan(1e-5);
    expect(again.weights.map(({ shape }) => shape)).toEqual(imageModel().weights.map(({ shape }) => shape));

    detachLayers(model);
    expect(weightsOf(model)).toEqual(frozen);
    expect(outputsOf(model, x)).toEqual(before);
  });
});

describe('the frozen weights', () => {
  it("are trained again by the model's optimizer once the adapters are detached", async () => {
    const model = imageModel();
    const { x, y } = imageRows(16);
    compileFor(model, tf.train.sgd(0.1));
    const flags = () => model.weights.map(({ trainable }) => trainable);
    const before = weightsOf(model);
    attachLayers(model, lora({ r: 2 }));
    await model.fit(x, y, batch);
    expect(flags()).toContain(false);
    detachLayers(model);
    expect(flags()).not.toContain(false);
    expect(weightsOf(model)).toEqual(before);
    await model.fit(x, y, batch);
    for (const [name, values] of Object.entries(weightsOf(model))) expect(values, name).not.toEqual(before[name]);
  });

  it('do not change in any layer, including batch averages', async () => {
    const model = tf.sequential({
      layers: [
        tf.layers.conv2d({ filters: 3, kernelSize: 3, inputShape: [8, 8, 2] }),
        tf.layers.batchNormalization(),
        tf.layers.separableConv2d({ filters: 4, kernelSize: 2, activation: 'relu' }),
        tf.layers.flatten(),
        tf.layers.dense({ units: 3, kernelRegularizer: 'l1l2', trainable: false }),
      ],
    });
    const flags = () => model.weights.map(({ trainable }) => trainable);
    const { x, y } = imageRows(16);
    const [before, trainable] = [weightsOf(model), flags()];
    attachLayers(model, lora({ r: 2 }));
    compileFor(model);
    await model.fit(x, y, batch);
    expect(weightsOf(model)).toMatchObject(before);
    detachLayers(model);
    expect(weightsOf(model)).toEqual(before);
    expect(flags()).toEqual(trainable);

    compileFor(model);
    await model.fit(x, y, batch);
    const moved = Object.entries(weightsOf(model)).filter(([name, values]) =>
      values.some((value, index) => value !== before[name]?.[index]),
    );
    expect(moved.map(([name]) => name.replace(/^.*\//, ''))).toEqual(
      expect.arrayContaining(['moving_mean', 'moving_variance', 'kernel']),
    );
  });
});

describe('the parameters', () => {
  it("are counted by countParameters, and are not among the model's own weights", () => {
    const model = imageModel();
    const base = model.countParams();
    const peft = attachLayers(model, lora({ r: 2 }), { head: 'dense2' });
    const ranks = 2 * (18 + 4 + 24 + 6 + 36 + 8);
    expect(countParameters(peft)).toEqual({ trainable: ranks, saved: 27, stored: ranks, base: base - 27 });
    compileFor(model);
    expect(model.trainableWeights).toEqual([]);
    expect(model.countParams()).toBe(base);
  });

  it('of a model include all its weights, also of other layers; fixed tensors of a method are not trained', () => {
    const model = tf.sequential({
      layers: [
        tf.layers.dense({ name: 'dense', units: 3, inputShape: [5], useBias: false }),
        tf.layers.batchNormalization(),
      ],
    });
    const peft = attachLayers(model, lora({ r: 2, loraFa: true }));
    expect(countParameters(peft)).toEqual({ trainable: 2 * 3, saved: 0, stored: 2 * (5 + 3), base: 15 + 12 });
  });

  it('of a head are all that the method `head` trains', async () => {
    const model = imageModel();
    const { x, y } = imageRows(16);
    const peft = attachLayers(model, head(), { head: 'dense2' });
    const before = outputsOf(model, x);
    compileFor(model);
    await model.fit(x, y, batch);
    expect(countParameters(peft)).toMatchObject({ trainable: 0, saved: 27 });
    expect(outputsOf(model, x)).not.toEqual(before);
  });
});

describe('attachLayers rejects', () => {
  it('a model with adapters, and detachLayers one without', () => {
    const model = imageModel();
    attachLayers(model, lora());
    expect(() => attachLayers(model, lora())).toThrow(/has adapters already/);
    const around = tf.sequential({ layers: [model, tf.layers.dense({ units: 2 })] });
    expect(() => attachLayers(around, lora())).toThrow(/has adapters already, for example on 'images.conv1'/);
    detachLayers(model);
    expect(() => detachLayers(model)).toThrow(ConfigError);
    expect(() => mergeLayers(model)).toThrow(/call attachLayers first/);
  });

  it('a head that is not a layer, and a configuration that needs missing data', () => {
    expect(() => attachLayers(imageModel(), lora(), { head: 'flatten' })).toThrow(/conv1, conv2, dense1, dense2/);
    expect(() => attachLayers(imageModel(), lora({ initLoraWeights: 'eva' }))).toThrow(UnsupportedError);
  });
});
