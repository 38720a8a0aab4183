import {
  activeAdapter,
  attach,
  evaluate,
  fitTemperature,
  getPeftModelStateDict,
  hotswapAdapter,
  loadPretrained,
  memoryStorage,
  predict,
  savePretrained,
  setPeftModelStateDict,
  train,
  type Executor,
  type PeftModel,
} from '@peftjs/core';
import { compiled, eager } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, type PretrainedModel } from '@peftjs/models';
import { pipeline } from '@peftjs/pipelines';
import { createDataSet, encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { beforeAll, describe, expect, it } from 'vitest';
import { bertFolder } from '../models/bert-tiny.js';

const methods = [lora];
const executor = compiled({ threads: 1 });
const storage = memoryStorage();
const classes = ['cat', 'dog'];

/** Rows whose class follows from their text, except in every n-th one. */
async function rows(count: number, wrong = Infinity) {
  const made = Array.from({ length: count }, (_, row) => {
    const label = row % 2;
    return { text: `a ${classes[label]} is number ${row}`, label: row % wrong === wrong - 1 ? 1 - label : label };
  });
  const set = await createDataSet({ name: 'pets', kind: 'classification', classes, rows: made });
  return encodeRows(set, model.tokenizer, { maxTokens: 16 });
}

let model: PretrainedModel;
let peft: PeftModel;
beforeAll(async () => {
  model = await fromPretrained(bertFolder, { labels: classes });
  peft = attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
  const data = trainingData(await rows(16), { batchSize: 8, seed: 1 });
  await train(peft, data, { executor, epochs: 20, learningRate: 0.01 });
});

const heldOut = async () => evaluationData(await rows(40, 5), { batchSize: 8 });
const reported = async () => evaluationData(await rows(60, 5), { batchSize: 8 });

/** An independent copy of the trained model. */
const copy = (): PeftModel => ({ ...peft, adapters: new Map(peft.adapters) });

async function fitted(on: Executor) {
  const own = copy();
  const { accuracy, expectedCalibrationError } = await evaluate(own, await reported(), { executor: on });
  const temperature = await fitTemperature(own, await heldOut(), { executor: on });
  return {
    before: { accuracy, expectedCalibrationError },
    temperature,
    after: await evaluate(own, await reported(), { executor: on }),
  };
}

it('scores have less than half of the calibration error after scaling, the same accuracy, on every executor', async () => {
  const all = [await fitted(executor), await fitted(await eager({ backend: 'cpu' }))] as const;
  for (const { before, temperature, after } of all) {
    expect(before.expectedCalibrationError).toBeGreaterThan(0.15); // it is almost sure, and right in four of five rows
    expect(after.expectedCalibrationError).toBeLessThan((before.expectedCalibrationError ?? NaN) / 2);
    expect(after.accuracy).toBe(before.accuracy);
    expect(temperature / all[0].temperature).toBeCloseTo(1, 4);
    expect(after.expectedCalibrationError).toBeCloseTo(all[0].after.expectedCalibrationError ?? NaN, 4);
  }
});

describe('the temperature of an adapter', () => {
  let temperature: number;
  let logits: Float32Array;
  const text = 'a dog is number 3';
  const open = () => pipeline('text-classification', 'pets', { methods, executor, storage, model });
  beforeAll(async () => {
    const own = copy();
    await savePretrained(own, 'unscaled', { storage });
    temperature = await fitTemperature(own, await heldOut(), { executor });
    await savePretrained(own, 'pets', { storage });
    const batches = evaluationData(await rows(4), { batchSize: 4 }).batches;
    logits = (await predict(own, batches, { executor }))[3] as Float32Array;
  });

  it('is saved with it, and divides the logits of a softmax in pipelines', async () => {
    const loaded = await loadPretrained(model, 'pets', { methods, storage });
    expect(activeAdapter(loaded).temperature).toBe(temperature);
    const classify = await open();
    const margin = (logits[1] as number) - (logits[0] as number);
    const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
    const scoreOf = async (options: object) => (await classify(text, options))[0]?.score;
    expect(await scoreOf({})).toBeCloseTo(sigmoid(margin / temperature), 6);
    expect(await scoreOf({ adapter: '__base__', topK: 2 })).not.toBeCloseTo(sigmoid(margin / temperature), 3);
    expect(await scoreOf({ functionToApply: 'none' })).toBeCloseTo(logits[1] as number, 4);
    expect(await scoreOf({ functionToApply: 'sigmoid' })).toBeCloseTo(sigmoid(logits[1] as number), 6);
    const rank = await pipeline('text-ranking', 'pets', { methods, executor, storage, model });
    const [document] = await rank('a dog', ['is number 3']);
    const pair = await classify({ text: 'a dog', textPair: 'is number 3' }, { topK: 2 });
    expect(document?.score).toBeCloseTo(pair.find(({ label }) => label === 'dog')?.score ?? NaN, 12);
  });

  it('goes with its values when they are swapped', async () => {
    const own = await loadPretrained(model, 'pets', { methods, storage });
    await hotswapAdapter(own, 'unscaled', { methods, storage, adapterName: 'default' });
    expect(activeAdapter(own)).not.toHaveProperty('temperature');
    await hotswapAdapter(own, 'pets', { methods, storage, adapterName: 'default' });
    expect(activeAdapter(own).temperature).toBe(temperature);
    setPeftModelStateDict(own, getPeftModelStateDict(own));
    expect(activeAdapter(own)).not.toHaveProperty('temperature');
  });

  it.each([
    ['zero', { temperature: 0 }],
    ['a text', { temperature: '2' }],
    ['one of several labels a row', { problem_type: 'multi_label_classification' }],
  ])('is refused in a file: %s', async (_, fields) => {
    const config = JSON.parse(new TextDecoder().decode(await storage.read('pets/adapter_config.json'))) as object;
    const changed = memoryStorage();
    await changed.write('pets/adapter_model.safetensors', await storage.read('pets/adapter_model.safetensors'));
    await changed.write('pets/adapter_config.json', new TextEncoder().encode(JSON.stringify({ ...config, ...fields })));
    await expect(loadPretrained(model, 'pets', { methods, storage: changed })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: 'temperature' }),
    );
  });
});
