import { attachLayers } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { imageModel, imageRows, onCpu } from './models.js';

let x: tf.Tensor;
let wrong: tf.Tensor;
beforeAll(async () => {
  await onCpu();
  ({ x } = imageRows(4));
  wrong = tf.tensor1d([0, 1, 3, 2]);
});

/** A model with three classes, compiled for class numbers, with an adapter. */
function classifier(): tf.LayersModel {
  const model = imageModel();
  attachLayers(model, lora({ r: 2 }));
  model.compile({ optimizer: 'sgd', loss: 'sparseCategoricalCrossentropy' });
  return model;
}

const message = /the label of row 2 is 3; expected an integer from 0 to 2: 'images' has 3 outputs/;

function fittedTo(ys: tf.Tensor): Promise<tf.History> {
  type Dataset = Parameters<tf.LayersModel['fitDataset']>[0];
  const dataset = tf.data.array([{ xs: x, ys }]) as unknown as Dataset; // the class is declared twice
  return classifier().fitDataset(dataset, { epochs: 1, batchesPerEpoch: 1 });
}

describe("labels without an output in a user's model", () => {
  it('are rejected by fit', async () => {
    await expect(classifier().fit(x, wrong, { epochs: 1 })).rejects.toThrow(message);
  });

  it('are rejected by trainOnBatch', async () => {
    await expect(classifier().trainOnBatch(x, wrong)).rejects.toThrow(message);
  });

  it('are rejected by fitDataset', async () => {
    await expect(fittedTo(wrong)).rejects.toThrow(message);
  });

  it('are accepted with other losses, and right ones are trained on', async () => {
    const model = classifier();
    await expect(model.fit(x, tf.tensor1d([0, 1, 0, 2]), { epochs: 1 })).resolves.toBeDefined();
    await expect(fittedTo(tf.tensor1d([0, 1, 0, 2]))).resolves.toBeDefined();
    model.compile({ optimizer: 'sgd', loss: 'meanSquaredError' });
    await expect(model.fit(x, tf.fill([4, 3], 7), { epochs: 1 })).resolves.toBeDefined();
  });
});
