import {
  activeAdapter,
  adamW,
  attach,
  hostTensor,
  train,
  type Batch,
  type Model,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { hostIntegers, type HostTensors } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { farthestTensor, referenceExecutor, relativeDistance } from '@peftjs/conformance';
import { attachLayers } from '@peftjs/layers';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { compileFor, methods, onCpu, randomValues } from './models.js';

/*
 * The same network twice: as a tf.LayersModel, trained by its own fit, and as a model of peftjs, trained by `train`.
 * The same seed makes the same adapter, the same batches come in the same order, and Adam is the same, so the results
 * must be the same.
 */

const [ROWS, BATCH, EPOCHS, RATE] = [48, 8, 5, 0.02];
const x = randomValues(ROWS * 6, 11);
const labels = Int32Array.from({ length: ROWS }, (_, row) => (row * 7 + ((row / 5) | 0)) % 3);

beforeAll(onCpu);

function layersModel(): tf.Sequential {
  const kernelInitializer = tf.initializers.glorotNormal({ seed: 5 });
  const biasInitializer = tf.initializers.randomNormal({ seed: 6, stddev: 0.1 });
  return tf.sequential({
    layers: [
      tf.layers.dense({
        name: 'dense1',
        units: 5,
        activation: 'relu',
        inputShape: [6],
        kernelInitializer,
        biasInitializer,
      }),
      tf.layers.dense({ name: 'dense2', units: 3, kernelInitializer, biasInitializer }),
    ],
  });
}

/** The same network with the weights of the other one. */
function plainModel(twin: tf.LayersModel): Model {
  const weights: HostTensors = {};
  for (const layer of twin.layers) {
    const [weight, bias] = layer.getWeights() as [tf.Tensor, tf.Tensor];
    weights[`${layer.name}.weight`] = hostTensor(weight.dataSync<'float32'>().slice(), weight.shape);
    weights[`${layer.name}.bias`] = hostTensor(bias.dataSync<'float32'>().slice(), bias.shape);
  }
  return {
    name: 'plain',
    fingerprint: 'plain',
    sites: [linearSite('dense1', 6, 5), linearSite('dense2', 5, 3)],
    weights,
    head: [],
    defaultTargetModules: ['dense1', 'dense2'],
    lookups: [],
    forward: (scope, inputs) => scope.linear('dense2', tf.relu(scope.linear('dense1', inputs.x as tf.Tensor))),
  };
}

const batches: Batch[] = Array.from({ length: ROWS / BATCH }, (_, index) => {
  const rows = Array.from({ length: BATCH }, (_, row) => index * BATCH + row);
  return {
    inputs: { x: hostTensor(x.slice(index * BATCH * 6, (index + 1) * BATCH * 6), [BATCH, 6]) },
    labels: hostIntegers(labels.slice(index * BATCH, (index + 1) * BATCH), [BATCH]),
    rowWeights: hostTensor(new Float32Array(BATCH).fill(1), [BATCH]),
    rows,
  };
});

/** Trains the plain model with `train`. @returns the loss of every step */
async function trainPlain(peft: PeftModel, options: Partial<TrainOptions> = {}): Promise<number[]> {
  const losses: number[] = [];
  const data = { kind: 'classification', epoch: () => batches, batchesPerEpoch: batches.length } as const;
  await train(peft, data, {
    executor: await referenceExecutor(),
    epochs: EPOCHS,
    learningRate: RATE,
    schedule: 'constant',
    warmupRatio: 0,
    clipNorm: null,
    optimizer: adamW({ beta2: 0.9 }),
    onStep: ({ loss }) => losses.push(loss),
    ...options,
  });
  return losses;
}

/** Trains with the model's own fit. @returns the mean loss of every epoch */
async function fit(model: tf.LayersModel): Promise<number[]> {
  compileFor(model, tf.train.adam(RATE, 0.9, 0.9, 1e-8));
  const { history } = await model.fit(tf.tensor2d(x, [ROWS, 6]), tf.oneHot(tf.tensor1d(labels, 'int32'), 3), {
    epochs: EPOCHS,
    batchSize: BATCH,
    shuffle: false,
  });
  return history.loss as number[];
}

function meansOf(losses: readonly number[], perEpoch: number): number[] {
  const epochs = Array.from({ length: losses.length / perEpoch }, (_, epoch) =>
    losses.slice(epoch * perEpoch, (epoch + 1) * perEpoch),
  );
  return epochs.map((own) => own.reduce((sum, loss) => sum + loss, 0) / perEpoch);
}

describe("a model's own fit gives the results of train", () => {
  it.each(Object.entries(methods))('%s', async (_name, configured) => {
    const model = layersModel();
    const expected = attach(plainModel(model), configured, { seed: 3 });
    const losses = await trainPlain(expected);

    const peft = attachLayers(model, configured, { seed: 3, plan: { warmupSteps: 0 } });
    const initial = activeAdapter(peft).values;
    const means = await fit(model);

    expect(farthestTensor(activeAdapter(peft).values, initial).distance).toBeGreaterThan(1e-2);
    expect(farthestTensor(activeAdapter(peft).values, activeAdapter(expected).values).distance).toBeLessThan(1e-4);
    expect(relativeDistance(means, meansOf(losses, batches.length))).toBeLessThan(1e-4);
  });

  it('with a separate learning rate for a group', async () => {
    const model = layersModel();
    const configured = sora({ r: 4, sparseLambda: 1 });
    const expected = attach(plainModel(model), configured, { seed: 3 });
    await trainPlain(expected, { learningRates: { gate: RATE / 4 } });

    const peft = attachLayers(model, configured, { seed: 3, plan: { warmupSteps: 0 }, rateFactors: { gate: 0.25 } });
    await fit(model);
    expect(farthestTensor(activeAdapter(peft).values, activeAdapter(expected).values).distance).toBeLessThan(1e-4);
  });
});
