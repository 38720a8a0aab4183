import { createRequire } from 'node:module';
import { activeAdapter, countParameters, describeParameters, memoryStorage, savePretrained } from '@peftjs/core';
import type { ConfiguredMethod } from '@peftjs/core/method';
import { farthestTensor, relativeDistance } from '@peftjs/conformance';
import { full, head } from '@peftjs/baselines';
import { eager } from '@peftjs/engine';
import { attachLayers, detachLayers, loadLayers, mergeLayers } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  artifactsOf,
  compileFor,
  imageModel,
  imageRows,
  outputsOf,
  savedAndLoaded,
  weightsOf,
  type Rows,
} from './models.js';

/*
 * A small network that reads upright handwritten digits of MNIST, adapted to rotated digits. Everything runs on WASM,
 * which has no gradient for a convolution's kernel: an adapter can train there, the layer itself cannot.
 */

const PIXELS = 28 * 28;
const digits = Array.from({ length: 10 }, (_, digit) => {
  const file = createRequire(import.meta.url)(`mnist/src/digits/${digit}.json`) as { data: number[] };
  return file.data;
});

/**
 * Images `[10 * count, 28, 28, 1]` of every digit, starting at number `from`, optionally rotated by 90 degrees; and
 * their classes.
 */
function digitRows(from: number, count: number, turned: boolean): Rows {
  const x = new Float32Array(10 * count * PIXELS);
  const y = new Float32Array(10 * count * 10);
  for (let row = 0; row < 10 * count; row++) {
    const [image, digit] = [from + Math.floor(row / 10), row % 10];
    y[row * 10 + digit] = 1;
    for (let pixel = 0; pixel < PIXELS; pixel++) {
      const [down, right] = [Math.floor(pixel / 28), pixel % 28];
      const to = turned ? right * 28 + (27 - down) : pixel;
      x[row * PIXELS + to] = digits[digit]?.[image * PIXELS + pixel] as number;
    }
  }
  return { x: tf.tensor(x, [10 * count, 28, 28, 1]), y: tf.tensor(y, [10 * count, 10]) };
}

function network(): tf.Sequential {
  const options = (seed: number) =>
    ({ activation: 'relu', kernelInitializer: tf.initializers.glorotUniform({ seed }) }) as const;
  return tf.sequential({
    name: 'digits',
    layers: [
      tf.layers.conv2d({
        ...options(1),
        name: 'conv1',
        filters: 8,
        kernelSize: 5,
        strides: 2,
        inputShape: [28, 28, 1],
      }),
      tf.layers.conv2d({ ...options(2), name: 'conv2', filters: 16, kernelSize: 3, strides: 2 }),
      tf.layers.flatten({ name: 'flatten' }),
      tf.layers.dense({ ...options(3), name: 'hidden', units: 32 }),
      tf.layers.dense({ ...options(4), name: 'digit', units: 10, activation: 'softmax' }),
    ],
  });
}

async function fit(model: tf.LayersModel, { x, y }: Rows, args: tf.ModelFitArgs, rate = 5e-3): Promise<void> {
  model.compile({ optimizer: tf.train.adam(rate), loss: 'categoricalCrossentropy', metrics: ['accuracy'] });
  await model.fit(x, y, { batchSize: 25, shuffle: false, ...args });
}

function accuracy(model: tf.LayersModel, { x, y }: Rows): number {
  return tf.tidy(
    () => tf.mean(tf.equal(tf.argMax(model.predict(x) as Tensor, 1), tf.argMax(y, 1))).dataSync()[0] as number,
  );
}

let pretrained: tf.io.ModelArtifacts;
let turned: Rows;
let heldOut: Rows;

const pretrainedModel = () => tf.loadLayersModel(tf.io.fromMemory(pretrained));

beforeAll(async () => {
  tf.env().set('PROD', true);
  await eager({ backend: 'wasm' });
  await tf.setBackend('wasm');
  [turned, heldOut] = [digitRows(100, 40, true), digitRows(300, 40, true)];
  const model = network();
  attachLayers(model, full());
  await fit(model, digitRows(0, 60, false), { epochs: 5 }, 3e-3);
  mergeLayers(model);
  pretrained = await artifactsOf(model);
});

afterAll(() => tf.setBackend('cpu'));

/** The accuracy on rotated digits after training an adapter and the head on other ones. */
async function adapted(configured: ConfiguredMethod) {
  const model = await pretrainedModel();
  const frozen = weightsOf(model);
  const peft = attachLayers(model, configured, { seed: 1, head: 'digit' });
  await fit(model, turned, { epochs: 15 });
  return { model, peft, frozen, accuracy: accuracy(model, heldOut) };
}

describe('digits that are rotated by 90 degrees', () => {
  it('are read better with an adapter than by the frozen network with a new head', async () => {
    const upright = await pretrainedModel();
    expect(accuracy(upright, digitRows(300, 40, false))).toBeGreaterThan(0.8);
    expect(accuracy(upright, heldOut)).toBeLessThan(0.25);
    const [headOnly, withLora] = [await adapted(head()), await adapted(lora({ r: 8, loraAlpha: 16 }))];
    expect(withLora.accuracy).toBeGreaterThan(headOnly.accuracy + 0.05);

    const { model, peft, frozen } = withLora;
    const ranks = 8 * (25 + 8 + 72 + 16 + 400 + 32);
    expect(countParameters(peft)).toEqual({ trainable: ranks, saved: 330, stored: ranks, base: 208 + 1168 + 12832 });
    expect(describeParameters(peft)).toMatch(/^trainable params: 4,754 \|\| all params: 18,962 /);

    const storage = memoryStorage();
    await savePretrained(peft, 'lying', { storage });
    const again = await pretrainedModel();
    await loadLayers(again, 'lying', { storage, methods: [lora], head: 'digit' });
    expect(outputsOf(again, heldOut.x)).toEqual(outputsOf(model, heldOut.x));
    const merged = await savedAndLoaded(model);
    expect(relativeDistance(outputsOf(merged, heldOut.x), outputsOf(model, heldOut.x))).toBeLessThan(1e-5);

    detachLayers(model);
    expect(weightsOf(model)).toEqual(frozen);
  });

  it('are read with as few parameters as SoRA may keep', async () => {
    const { peft, accuracy } = await adapted(sora({ r: 8, budget: 3000 }));
    expect(countParameters(peft).stored).toBeGreaterThan(2970);
    expect(countParameters(peft).stored).toBeLessThanOrEqual(3000);
    expect(accuracy).toBeGreaterThan(0.6);
  });
});

describe('on WASM', () => {
  it('an adapter of a convolution trains although the convolution itself cannot', async () => {
    const model = await pretrainedModel();
    await expect(fit(model, turned, { epochs: 1 })).rejects.toThrow(/Conv2DBackpropFilter.*wasm/);
    attachLayers(model, lora({ r: 2 }));
    await expect(fit(model, turned, { epochs: 1 })).resolves.toBeUndefined();
  });

  it('an adapter trains below frozen convolutions, too', async () => {
    const model = imageModel(); // the second convolution has no activation: otherwise TensorFlow.js would compute its kernel's gradient, too
    const { x, y } = imageRows(16);
    attachLayers(model, lora({ r: 2, targetModules: ['conv1'] }));
    compileFor(model);
    const { history } = await model.fit(x, y, { epochs: 3 });
    expect(history.loss?.at(-1)).toBeLessThan(history.loss?.[0] as number);
  });

  it('an adapter trains to the same values as on the plain backend', async () => {
    const values = [];
    for (const backend of ['cpu', 'wasm']) {
      await tf.setBackend(backend);
      const model = imageModel();
      const { x, y } = imageRows(16);
      const peft = attachLayers(model, lora({ r: 2, useDora: true }), { seed: 3 });
      model.compile({
        optimizer: tf.train.momentum(0.05, 0.9),
        loss: (labels, logits) => tf.losses.softmaxCrossEntropy(labels, logits),
      });
      await model.fit(x, y, { batchSize: 8, epochs: 3, shuffle: false });
      values.push(activeAdapter(peft).values);
    }
    const [onCpu, onWasm] = values;
    expect(farthestTensor(onWasm ?? {}, onCpu ?? {}).distance).toBeLessThan(1e-4);
  });
});
