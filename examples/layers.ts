// LoRA on your own LayersModel: a small network that classifies digits learns to classify rotated ones.
import { createRequire } from 'node:module';
import { countParameters, savePretrained } from '@peftjs/core';
import { attachLayers, mergeLayers } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs';

const { IMAGES = '100', EPOCHS = '10' } = process.env;
const count = Number(IMAGES);
const PIXELS = 28 * 28;

/** Returns `count` images of every digit, [10 count, 14, 14], and their classes [10 count, 10]. */
function digits(from: number, turned = false) {
  const require = createRequire(import.meta.url);
  const images = Array.from({ length: 10 }, (_, digit) => {
    const { data } = require(`mnist/src/digits/${digit}.json`) as { data: number[] };
    return tf.tensor4d(data.slice(from * PIXELS, (from + count) * PIXELS), [count, 28, 28, 1]);
  });
  const small = tf.avgPool(tf.concat(images), 2, 2, 'valid').squeeze<tf.Tensor3D>([3]);
  const labels = Array.from({ length: 10 * count }, (_, row) => Math.floor(row / count));
  return { x: turned ? tf.transpose(small, [0, 2, 1]) : small, y: tf.oneHot(labels, 10) };
}

const accuracy = (model: tf.LayersModel, { x, y }: ReturnType<typeof digits>) =>
  tf.mean(tf.equal(tf.argMax(model.predict(x) as tf.Tensor, -1), tf.argMax(y, -1))).dataSync()[0];

const model = tf.sequential();
model.add(tf.layers.flatten({ inputShape: [14, 14] }));
model.add(tf.layers.dense({ units: 32, activation: 'relu', name: 'hidden' }));
model.add(tf.layers.dense({ units: 10, activation: 'softmax', name: 'classes' }));
const settings = { loss: 'categoricalCrossentropy' } as const;
const upright = digits(0);
model.compile({ optimizer: tf.train.adam(5e-3), ...settings });
await model.fit(upright.x, upright.y, { epochs: Number(EPOCHS) });

const turned = digits(count, true);
const heldOut = digits(2 * count, true);
console.log('turned digits, before', accuracy(model, heldOut));

const peft = attachLayers(model, lora({ r: 4 }), { seed: 1 });
console.log(countParameters(peft));
model.compile({ optimizer: tf.train.adam(1e-2), ...settings }); // compile again: other weights are trained now
await model.fit(turned.x, turned.y, { epochs: Number(EPOCHS) });
console.log('turned digits, after', accuracy(model, heldOut));

await savePretrained(peft, 'turned-digits');
mergeLayers(model); // a plain LayersModel again
console.log('merged', accuracy(model, heldOut));
