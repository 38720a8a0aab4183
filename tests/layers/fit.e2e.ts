import {
  activeAdapter,
  activeRanks,
  addAdapter,
  countParameters,
  disableAdapter,
  mergeAdapter,
  onWarning,
  setAdapter,
  type PeftModel,
} from '@peftjs/core';
import { floats, tensorAt } from '@peftjs/core/method';
import { adalora } from '@peftjs/adalora';
import { attachLayers, type LayersOptions } from '@peftjs/layers';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';
import { compileFor, crossEntropyOf, imageModel, imageRows, onCpu, outputsOf, type Rows } from './models.js';

let rows: Rows;

beforeAll(async () => {
  await onCpu();
  rows = imageRows(40);
});

/** `fitDataset` on batches of 8, of endless data unless `taken` is given. */
function fitRepeated(
  model: tf.LayersModel,
  args: { epochs: number; batchesPerEpoch?: number },
  taken: (pairs: tf.data.Dataset<tf.TensorContainer>) => tf.data.Dataset<tf.TensorContainer> = (pairs) =>
    pairs.repeat(),
): Promise<unknown> {
  const pairs = tf.data.zip({ xs: tf.data.array(tf.unstack(rows.x)), ys: tf.data.array(tf.unstack(rows.y)) });
  const fitDataset = model.fitDataset.bind(model) as (dataset: unknown, args: object) => Promise<unknown>;
  return fitDataset(taken(pairs).batch(8), args);
}

/** A compiled model with an adapter. */
function adapted(configured: Parameters<typeof attachLayers>[1], options: LayersOptions = {}) {
  const model = imageModel();
  const peft = attachLayers(model, configured, options);
  compileFor(model, tf.train.adam(0.03));
  const fit = (args: tf.ModelFitArgs = {}) => model.fit(rows.x, rows.y, { batchSize: 8, epochs: 8, ...args });
  return { model, peft, fit };
}

const ranksOf = (peft: PeftModel) => {
  const { layers, values } = activeAdapter(peft);
  return Object.values(activeRanks(layers, values)).reduce((sum, rank) => sum + rank, 0);
};

describe('fit runs', () => {
  it("SoRA's proximal step: gates reach exact zeros, and their ranks no longer count", async () => {
    const { peft, fit } = adapted(sora({ r: 6, sparseLambda: 1 }));
    await fit();
    const gates = Object.keys(activeAdapter(peft).layers).flatMap((path) => [
      ...floats(tensorAt(activeAdapter(peft).values, `${path}.gate`)),
    ]);
    const zeros = gates.filter((gate) => Object.is(gate, 0)).length;
    expect(zeros).toBeGreaterThan(2);
    expect(zeros).toBeLessThan(gates.length);
    expect(ranksOf(peft)).toBe(gates.length - zeros);
    expect(countParameters(peft).stored).toBeLessThan(countParameters(peft).trainable - gates.length);
  });

  it("SoRA's budget controller, with every optimizer that exposes its learning rate", async () => {
    for (const optimizer of [tf.train.rmsprop(0.01), tf.train.momentum(0.02, 0.9), tf.train.adamax(0.03)]) {
      const { model, peft, fit } = adapted(sora({ r: 6, budget: 300 }));
      compileFor(model, optimizer);
      await fit();
      const { stored } = countParameters(peft);
      expect(stored).toBeGreaterThan(297);
      expect(stored).toBeLessThanOrEqual(300);
    }
  });

  it("AdaLoRA's allocator, which leaves exactly the triplets of its budget", async () => {
    const { peft, fit } = adapted(adalora({ initR: 6, targetR: 2, deltaT: 2 }));
    await fit();
    expect(ranksOf(peft)).toBe(2 * 4);
  });

  it('a controller in fitDataset, with the length from its arguments', async () => {
    const { model, peft } = adapted(adalora({ initR: 4, targetR: 1, deltaT: 2 }));
    await fitRepeated(model, { epochs: 4, batchesPerEpoch: 5 });
    expect(ranksOf(peft)).toBe(4);
  });

  it('one run over several calls, if the number of steps is given', async () => {
    const { model, peft, fit } = adapted(adalora({ initR: 4, targetR: 1, deltaT: 2 }), { plan: { totalSteps: 25 } });
    await fit({ epochs: 2 });
    expect(ranksOf(peft)).toBeGreaterThan(4);
    for (let step = 10; step < 25; step++) await model.trainOnBatch(rows.x, rows.y);
    expect(ranksOf(peft)).toBe(4);
  });

  it('validation and callbacks, which see the current adapter', async () => {
    const { model, peft, fit } = adapted(lora({ r: 2 }));
    const seen: number[] = [];
    const { history } = await fit({
      epochs: 3,
      validationSplit: 0.2,
      callbacks: {
        onEpochEnd: () => void seen.push(floats(tensorAt(activeAdapter(peft).values, 'dense1.loraB'))[0] as number),
      },
    });
    expect(new Set(seen).size).toBe(3);
    const { x, y } = { x: tf.slice(rows.x, [32]), y: tf.slice(rows.y, [32]) };
    const loss = model.evaluate(x, y) as tf.Scalar;
    expect(history.val_loss?.at(-1)).toBeCloseTo(loss.dataSync()[0] as number, 5);
    expect(crossEntropyOf(y, model.predict(x) as Tensor).dataSync()[0]).toBeCloseTo(loss.dataSync()[0] as number, 5);
  });

  it('with the optimizer that trained the adapter before, keeping its moments', async () => {
    const { fit } = adapted(lora({ r: 2 }));
    const first = await fit();
    const second = await fit();
    expect(second.history.loss?.[0]).toBeLessThan(first.history.loss?.[0] as number);
  });

  it('several adapters in turn, whichever is active', async () => {
    const { model, peft, fit } = adapted(lora({ r: 2 }));
    addAdapter(peft, lora({ r: 3, targetModules: ['dense1'] }), { adapterName: 'other' });
    await fit();
    const [first, outputs] = [activeAdapter(peft).values, outputsOf(model, rows.x)];
    setAdapter(peft, 'other');
    compileFor(model);
    await fit();
    expect(outputsOf(model, rows.x)).not.toEqual(outputs);
    setAdapter(peft, 'default');
    expect(activeAdapter(peft).values).toEqual(first);
    expect(outputsOf(model, rows.x)).toEqual(outputs);
  });
});

describe('fit throws', () => {
  it('for an optimizer with moments of other weights', async () => {
    const model = imageModel();
    const optimizer = tf.train.adam();
    compileFor(model, optimizer);
    await model.fit(rows.x, rows.y, { epochs: 1 });
    const peft = attachLayers(model, lora({ r: 2 }));
    await expect(model.fit(rows.x, rows.y)).rejects.toThrow(/Adam has moments of other weights.*compile the model/);
    compileFor(model);
    await expect(model.fit(rows.x, rows.y)).resolves.toBeDefined();
    addAdapter(peft, lora({ r: 3 }), { adapterName: 'other' });
    setAdapter(peft, 'other');
    await expect(model.fit(rows.x, rows.y)).rejects.toThrow(/has moments of other weights/);
  });

  it('when the method changes the shapes of tensors whose moments the optimizer has', async () => {
    for (const configured of [
      sora({ r: 6, budget: 100, compactEvery: 5 }),
      adalora({ initR: 6, targetR: 1, compact: true }),
    ]) {
      const { fit } = adapted(configured);
      await expect(fit()).rejects.toThrow(/changes the ranks of '.*'.*Choose a method and options that keep them/);
    }
  });

  it('when a method with phases cannot know how long training is', async () => {
    const { model } = adapted(adalora({ initR: 4, targetR: 1 }));
    await expect(fitRepeated(model, { epochs: 4 })).rejects.toThrow(/batchesPerEpoch.*totalSteps/);
    await expect(fitRepeated(model, { epochs: 4 }, (pairs) => pairs.filter(() => true))).rejects.toThrow(
      /batchesPerEpoch/,
    );
    await expect(model.trainOnBatch(rows.x, rows.y)).rejects.toThrow(/the number of steps/);
    await expect(model.fit(rows.x, rows.y, { batchSize: 40 })).rejects.toThrow(/no step of 1 to choose ranks in/);
  });

  it('unless exactly one unmerged adapter is active', async () => {
    const { peft, fit } = adapted(lora({ r: 2 }));
    addAdapter(peft, lora({ r: 2 }), { adapterName: 'other' });
    await disableAdapter(peft, () => expect(fit()).rejects.toThrow(/one active adapter, enabled/));
    setAdapter(peft, ['default', 'other']);
    await expect(fit()).rejects.toThrow(/one active adapter/);
    setAdapter(peft, 'default');
    mergeAdapter(peft);
    await expect(fit()).rejects.toThrow(/not merged/);
  });

  it('when the loss does not depend on a layer', async () => {
    const input = tf.input({ shape: [4] });
    const used = tf.layers.dense({ name: 'used', units: 2 }).apply(input) as tf.SymbolicTensor;
    const lost = tf.layers.dense({ name: 'lost', units: 2 }).apply(input) as tf.SymbolicTensor;
    const model = tf.model({ inputs: input, outputs: [used, lost] });
    attachLayers(model, lora({ r: 1 }));
    const nothing = () => tf.scalar(0);
    model.compile({ optimizer: 'sgd', loss: [crossEntropyOf, nothing] });
    await expect(model.fit(tf.ones([4, 4]), [tf.zeros([4, 2]), tf.zeros([4, 2])])).rejects.toThrow(
      /'lost' is adapted, but the loss does not depend on it/,
    );
  });

  it('when the method needs a learning rate that the optimizer does not expose', async () => {
    class Nameless extends tf.SGDOptimizer {
      constructor() {
        super(0.1);
        Object.defineProperty(this, 'learningRate', { value: undefined });
      }
    }
    const { model, fit } = adapted(sora({ r: 2 }));
    compileFor(model, new Nameless());
    await expect(fit()).rejects.toThrow(/no number 'learningRate'/);
  });
});

describe('a warning reports', () => {
  async function warnings(scope: () => unknown): Promise<string[]> {
    const heard: string[] = [];
    const restore = onWarning((message) => void heard.push(message));
    await scope();
    restore();
    return heard;
  }

  it('training that stopped before the budget was reached', async () => {
    const { model, fit } = adapted(adalora({ initR: 4, targetR: 1, deltaT: 2 }));
    const stop = { onEpochEnd: () => void (model.stopTraining = true) };
    expect(await warnings(() => fit({ callbacks: stop }))).toEqual([
      expect.stringMatching(/stopped after 5 of 40 steps.*budget/),
    ]);
    const plain = adapted(lora({ r: 2 }));
    const stopAtOnce = { onEpochEnd: () => void (plain.model.stopTraining = true) };
    expect(await warnings(() => plain.fit({ callbacks: stopAtOnce }))).toEqual([]);
  });

  it("gradients outside the model's fit, if the method has gradient rules", async () => {
    const gradient = (model: tf.LayersModel) => tf.grad((x: Tensor) => tf.sum(model.predict(x) as Tensor))(rows.x);
    expect(await warnings(() => gradient(adapted(lora({ r: 2 })).model))).toEqual([]);
    expect(await warnings(() => outputsOf(adapted(sora({ r: 2 })).model, rows.x))).toEqual([]);
    expect(await warnings(() => gradient(adapted(sora({ r: 2 })).model))).toEqual([
      expect.stringMatching(/outside its own fit: .* of sora do not apply/),
    ]);
  });
});
