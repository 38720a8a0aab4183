import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { attach, defineMethod, savedModules } from '../adapter/attach.js';
import { forward } from '../adapter/scope.js';
import { targetEntries } from '../adapter/targets.js';
import type { CalibrationKind, Init, TargetConfig } from '../contracts/method.js';
import { parseOptions } from '../config.js';
import { ConfigError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { Batch, Model, TrainingData } from '../contracts/model.js';
import type { Site } from '../contracts/site.js';
import { initialValues } from '../adapter/peft-model.js';
import { createRng } from '../rng.js';
import { relativeDistance, referenceExecutor, tensorsOf, toyModel, toyTrainingData } from '@peftjs/conformance';
import { floats, hostIntegers, hostTensor, tensorAt, transposed } from '../tensors.js';
import { calibrate } from './calibrate.js';
import { crossEntropy } from '../losses/losses.js';
import { stepContext } from '../runtime/context.js';
import { modelInputs } from '../runtime/inputs.js';
import { frozenWeights } from '../runtime/runtime.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const path = 'encoder.layer.0.attention.query';
const data = toyTrainingData();

/** Computes nothing, but records what was measured. */
const looking = (
  kind: CalibrationKind | null,
  look: (init: Init) => void = () => undefined,
  targetModules = ['query'],
) =>
  defineMethod<TargetConfig>({
    name: 'looking',
    capabilities: { mergeable: false, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
    parseConfig: (input) => parseOptions('looking', targetEntries, input),
    calibration: () => kind,
    adapt: (_sites, _config, init) => {
      look(init);
      return {};
    },
    peftTypes: [],
    toFile: () => ({ config: {}, tensors: {} }),
    fromFile: () => ({ config: {}, values: {} }),
  })({ targetModules });

/** The loss of a batch on the frozen network with a head of seed 4. */
function lossOn(model: Model, index: number): number {
  const saved = savedModules(model, looking(null).config, createRng(4));
  const batch = data.epoch(0)[index] ?? expect.fail('no batch');
  return tf.tidy(() => {
    const tensors = {
      inputs: tensorsOf(modelInputs(model, saved, batch)),
      frozen: tensorsOf(frozenWeights(model, saved)),
      adapter: tensorsOf(initialValues(saved)),
    };
    const { labels, rowWeights } = tensorsOf({ labels: batch.labels, rowWeights: batch.rowWeights });
    const outputs = forward(model, saved, tensors, stepContext({}, 0, false));
    const { loss } = crossEntropy();
    const labelled = { labels: labels as tf.Tensor, rowWeights: rowWeights as tf.Tensor };
    return loss(outputs, { inputs: tensors.inputs, ...labelled }).dataSync()[0] as number;
  });
}

describe('calibrate', () => {
  it('measures the mean gradient of a frozen weight, as finite differences do', async () => {
    const model = toyModel();
    const { values } = await calibrate(model, looking('gradients'), data, { executor, batches: 2, seed: 4 });
    expect(Object.keys(values)).toEqual([path, 'encoder.layer.1.attention.query']);
    const gradient = floats(tensorAt(values, path));
    const weight = tensorAt(model.weights, `${path}.weight`);
    for (const index of [0, 9, 37]) {
      const at = (shift: number): number => {
        const moved = floats(weight).slice();
        moved[index] = (moved[index] as number) + shift;
        const shifted = { ...model, weights: { ...model.weights, [`${path}.weight`]: { ...weight, data: moved } } };
        return (lossOn(shifted, 0) + lossOn(shifted, 1)) / 2;
      };
      expect(gradient[index]).toBeCloseTo((at(0.01) - at(-0.01)) / 0.02, 4);
    }
  });

  it('measures the gradient of a tied head apart from its table', async () => {
    const toy = toyModel();
    const table = tensorAt(toy.weights, 'embeddings.weight');
    const [words = 0, width = 0] = table.shape;
    const site: Site = {
      path: 'words',
      kind: 'linear',
      role: 'head',
      inFeatures: width,
      outFeatures: words,
      hasBias: false,
    };
    const forward: Model['forward'] = (scope, { inputIds }) =>
      tf.mean(scope.linear('words', scope.embedding('embeddings', inputIds as tf.Tensor)), 1); // [batch, words]
    const tied: Model = { ...toy, forward, lookups: [], outputs: words, tied: [{ site, table: 'embeddings' }] };
    const weights = { ...toy.weights, 'words.weight': transposed(table) };
    const apart: Model = { ...tied, sites: [...toy.sites, site], tied: [], weights };
    const gradients = looking('gradients', undefined, ['words']);
    const [actual, expected] = await Promise.all(
      [tied, apart].map((model) => calibrate(model, gradients, data, { executor, batches: 1 })),
    );
    expect(Object.keys(actual?.values ?? {})).toEqual(['words']);
    expect(actual).toEqual(expected);
  });

  it('measures the second moment of the token rows that a module reads', async () => {
    const model = toyModel();
    const { values } = await calibrate(model, looking('activations'), data, { executor, batches: 3 });
    const table = floats(tensorAt(model.weights, 'embeddings.weight'));
    const expected = new Float64Array(64);
    let tokens = 0;
    for (const { inputs } of data.epoch(0).slice(0, 3)) {
      const [ids, mask] = [tensorAt(inputs, 'inputIds').data, tensorAt(inputs, 'attentionMask').data];
      ids.forEach((id, position) => {
        if (mask[position] === 0) return;
        tokens++;
        const row = table.subarray(8 * id, 8 * id + 8); // the first layer's query reads the embeddings
        for (let cell = 0; cell < 64; cell++) {
          expected[cell] = (expected[cell] as number) + (row[cell >> 3] as number) * (row[cell & 7] as number);
        }
      });
    }
    const mean = expected.map((sum) => sum / tokens);
    expect(relativeDistance(floats(tensorAt(values, path)), mean)).toBeLessThan(1e-5);
  });

  it('measures every text of pairs, column after column, but not those of rows that only fill a batch', async () => {
    const model: Model = {
      ...toyModel(),
      forward(scope, inputs) {
        const ids = inputs.inputIds as tf.Tensor; // [columns * batch, tokens]
        return tf.mean(scope.linear(path, scope.embedding('embeddings', ids)), 1);
      },
    };
    const ids = Int32Array.of(3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 7, 7); // the third row of either column fills the batch
    const batch: Batch = {
      inputs: {
        inputIds: hostIntegers(ids, [6, 2]),
        attentionMask: hostTensor(new Float32Array(12).fill(1), [6, 2]),
      },
      labels: hostIntegers(new Int32Array(3), [3]),
      rowWeights: hostTensor(Float32Array.of(1, 1, 0), [3]),
      rows: [0, 1],
      columns: 2,
    };
    const pairs: TrainingData = { kind: 'pairs', batchesPerEpoch: 1, epoch: () => [batch] };
    const { values } = await calibrate(model, looking('activations'), pairs, { executor });
    const table = floats(tensorAt(model.weights, 'embeddings.weight'));
    const read = [3, 4, 5, 6, 8, 9, 10, 11];
    const mean = Float64Array.from(
      { length: 64 },
      (_, cell) =>
        read.reduce(
          (sum, id) => sum + (table[8 * id + (cell >> 3)] as number) * (table[8 * id + (cell & 7)] as number),
          0,
        ) / read.length,
    );
    expect(relativeDistance(floats(tensorAt(values, path)), mean)).toBeLessThan(1e-5);
  });

  it.each([true, false])('leaves out rows that only fill a batch, with or without a mask: %s', async (hasMask) => {
    const model: Model = {
      ...toyModel(),
      forward(scope, inputs) {
        const ids = inputs.inputIds as tf.Tensor; // [batch, tokens]
        return tf.mean(scope.linear(path, scope.embedding('embeddings', ids)), 1); // [batch, hidden]
      },
    };
    const ids = Int32Array.of(3, 4, 5, 6, 7, 7);
    const labels = hostIntegers(new Int32Array(3), [3]);
    const batch = (ids: Int32Array, weights: number[]): Batch => ({
      inputs: {
        inputIds: hostIntegers(ids, [3, 2]),
        ...(hasMask && { attentionMask: hostTensor(new Float32Array(6).fill(1), [3, 2]) }),
      },
      labels,
      rowWeights: hostTensor(Float32Array.from(weights), [3]),
      rows: [0, 1, 2].slice(0, weights.filter(Boolean).length),
    });
    const measured = async (given: Batch) => {
      const data: TrainingData = { kind: 'classification', batchesPerEpoch: 1, epoch: () => [given] };
      const { values } = await calibrate(model, looking('activations'), data, { executor });
      return floats(tensorAt(values, path));
    };
    const table = floats(tensorAt(model.weights, 'embeddings.weight'));
    const mean = Float64Array.from({ length: 64 }, (_, cell) =>
      [3, 4, 5, 6].reduce(
        (sum, id) => sum + ((table[8 * id + (cell >> 3)] as number) * (table[8 * id + (cell & 7)] as number)) / 4,
        0,
      ),
    );
    expect(relativeDistance(await measured(batch(ids, [1, 1, 0])), mean)).toBeLessThan(1e-6);
    const others = ids.map((id, place) => (place < 4 ? id : 20));
    expect(await measured(batch(others, [1, 1, 0]))).toEqual(await measured(batch(ids, [1, 1, 0])));
  });

  it('passes its result to the method, which asks for nothing else', async () => {
    const model = toyModel();
    const calibration = await calibrate(model, looking('gradients'), data, { executor, batches: 1 });
    const seen: unknown[] = [];
    attach(
      model,
      looking('gradients', (init) => seen.push(init.calibrated('gradients', path))),
      { calibration },
    );
    expect(seen).toEqual([calibration.values[path]]);
    const wrong = looking('activations', (init) => init.calibrated('activations', path));
    expect(() => attach(model, wrong, { calibration })).toThrow(/attach with \{ calibration: await calibrate/);
  });

  it('rejects a configuration that computes nothing from data', async () => {
    await expect(calibrate(toyModel(), looking(null), data, { executor })).rejects.toThrow(ConfigError);
  });
});
