import {
  activeAdapter,
  adamW,
  attach,
  countParameters,
  loadPretrained,
  memoryStorage,
  savePretrained,
  type PeftModel,
} from '@peftjs/core';
import { ConfigError, floats, tensorAt, type HostTensors } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import {
  farthestTensor,
  initialOf,
  referenceBackend,
  tensorsOf,
  toyModel,
  toyTrainingData,
  trainToy,
} from '@peftjs/conformance';
import { lora, type LoraConfig } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { drawn, matrix, numbers, onModule } from './harness.js';

await referenceBackend(); // before the first tensor: it would print a banner

const attached = (config: Partial<LoraConfig>): PeftModel<LoraConfig> =>
  attach(toyModel(), lora({ r: 2, ...config }), { seed: 4 });

/** Returns the change of every tensor in one step of an optimizer that subtracts (nearly) the gradient. */
async function stepOf(config: Partial<LoraConfig>, clipNorm: number | null = null): Promise<Record<string, number[]>> {
  const peft = attached(config);
  const before = activeAdapter(peft).values;
  const optimizer = adamW({ weightDecay: 0, beta1: 0, epsilon: 1e3 });
  const options = { epochs: 1, learningRate: 1e3, schedule: 'constant', warmupRatio: 0, optimizer, clipNorm } as const;
  const { last } = await trainToy(peft, options, toyTrainingData(1, 1));
  return Object.fromEntries(
    Object.entries(last.values).map(([key, value]) => [key, differences(floats(value), floats(tensorAt(before, key)))]),
  );
}

const differences = (a: Float32Array, b: Float32Array): number[] =>
  [...a].map((value, index) => value - (b[index] as number));

const kindsOf = (steps: Readonly<Record<string, unknown>>, name: string): string[] =>
  Object.keys(steps).filter((key) => key.endsWith(`.${name}`) && !key.startsWith('classifier'));

describe('trap 29: LoRA+', () => {
  it.each([
    [{}, ['loraB']],
    [{ useDora: true }, ['loraB', 'loraMagnitudeVector']],
    [{ loraBias: true, bias: 'all' as const }, ['loraB', 'loraBias', 'bias']],
  ])('trains everything but A at a multiple of the learning rate: %o', async (options, faster) => {
    const start = { initLoraWeights: false, ...options } as const; // a zero B would leave A without a gradient
    const [plain, plus] = [await stepOf(start), await stepOf({ ...start, loraplusLrRatio: 16 })];
    const growth = (name: string): number[] =>
      kindsOf(plain, name).map((key) => {
        const [own, other] = [Math.hypot(...tensorAt(plain, key)), Math.hypot(...tensorAt(plus, key))];
        expect(own, key).toBeGreaterThan(0);
        return other / own;
      });
    for (const ratio of growth('loraA')) expect(ratio).toBeCloseTo(1, 2);
    for (const name of faster) {
      expect(growth(name).length).toBeGreaterThan(0);
      for (const ratio of growth(name)) expect(Math.abs(ratio / 16 - 1), name).toBeLessThan(0.02);
    }
    expect(Math.hypot(...tensorAt(plus, 'classifier.weight'))).toBeCloseTo(
      Math.hypot(...tensorAt(plain, 'classifier.weight')),
      6,
    );
  });

  it('trains embeddings at the learning rate of A', () => {
    const peft = attached({ targetModules: ['embeddings', 'query'], loraplusLrRatio: 16 });
    const rates = Object.values(activeAdapter(peft).layers).map(({ params }) => params.loraB?.rateFactor);
    expect(rates).toEqual([1, 16, 16]);
  });
});

const trainedValues = async (peft: PeftModel<LoraConfig>): Promise<HostTensors> =>
  (await trainToy(peft, { epochs: 3 })).last.values;

describe('trap 29: LoRA-FA', () => {
  it('keeps A bitwise and trains r * out parameters', async () => {
    const peft = attached({ loraFa: true });
    const before = activeAdapter(peft).values;
    const outputs = Object.values(activeAdapter(peft).layers).reduce((sum, { site }) => sum + site.outFeatures, 0);
    expect(countParameters(peft)).toMatchObject({ trainable: 2 * outputs });
    const after = await trainedValues(peft);
    expect(kindsOf(before, 'loraA').length).toBeGreaterThan(0);
    for (const key of kindsOf(before, 'loraA')) expect(after[key], key).toEqual(before[key]);
    for (const key of kindsOf(before, 'loraB')) expect(after[key], key).not.toEqual(before[key]);
  });

  it('moves the weight along its gradient, projected on the columns of A', () => {
    const { layer } = onModule({ r: 3, loraAlpha: 6, loraFa: true });
    const p = tensorsOf(initialOf(layer));
    const [loraA, gradient] = [tensorAt(p, 'loraA'), matrix(drawn(8, [6, 10]))]; // dL/dW
    const ofB = tf.mul(tf.matMul(loraA, gradient, true, false), 2); // s A^T G
    const step = layer.gradient?.('loraB', ofB, p) ?? expect.fail('no gradient');
    const ofWeight = tf.mul(tf.matMul(loraA, step), 2); // s A g_B
    const left = tf.sub(gradient, ofWeight);
    // The rest has no component in the columns of A, and the step lies within them.
    expect(Math.max(...numbers(tf.abs(tf.matMul(loraA, left, true, false))))).toBeLessThan(1e-5);
    expect(numbers(tf.sum(tf.mul(left, ofWeight)))[0]).toBeCloseTo(0, 4);
    expect(layer.gradient?.('loraA', loraA, p)).toBe(loraA);
  });

  it('is clipped after the projection', async () => {
    const steps = await stepOf({ loraFa: true, loraAlpha: 0.01 }, 1e-3); // s is small: the projected gradient is large
    expect(Math.hypot(...Object.values(steps).flat())).toBeCloseTo(1e-3, 6);
    const ofB = kindsOf(steps, 'loraB').flatMap((key) => tensorAt(steps, key));
    expect(Math.hypot(...ofB)).toBeGreaterThan(0.9e-3);
  });

  it('uses the A of a file: training continues as if the adapter had not been saved', async () => {
    const peft = attached({ loraFa: true, loraplusLrRatio: 2 });
    replaceAdapter(peft, { values: await trainedValues(peft) });
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage, pruned: false });
    const loaded = await loadPretrained(toyModel(), 'adapter', { methods: [lora], storage });
    expect(activeAdapter(loaded).config).toMatchObject({ loraFa: true, loraplusLrRatio: 2 });
    expect(farthestTensor(activeAdapter(loaded).values, activeAdapter(peft).values).distance).toBeLessThan(1e-6);
    // The initial values before loading.
    const fresh = activeAdapter(attach(toyModel(), lora({ r: 2, loraFa: true }), { seed: 0 })).values;
    expect(farthestTensor(activeAdapter(loaded).values, fresh).distance).toBeGreaterThan(0.1);
    const [goneOn, uninterrupted] = [await trainedValues(loaded as PeftModel<LoraConfig>), await trainedValues(peft)];
    expect(farthestTensor(goneOn, uninterrupted).distance).toBeLessThan(1e-4);
  });

  it('rejects a rank that A cannot have', () => {
    expect(() => onModule({ r: 7, loraFa: true })).toThrow(expect.objectContaining({ path: 'r' }));
    expect(() => onModule({ r: 6, loraFa: true })).not.toThrow(ConfigError);
  });

  it('trains both factors of an embedding, whose A starts from zero', () => {
    const { layers } = activeAdapter(attached({ loraFa: true, targetModules: ['embeddings', 'query'] }));
    const trained = Object.values(layers).map(({ params }) => params.loraA?.trainable);
    expect(trained).toEqual([true, false, false]);
  });
});

describe('resuming from a file', () => {
  const kinds: Readonly<Record<string, Partial<LoraConfig>>> = {
    lora: { loraDropout: 0.2 },
    dora: { useDora: true },
    pissa: { initLoraWeights: 'pissa' },
    olora: { initLoraWeights: 'olora', bias: 'lora_only' },
    biases: { bias: 'all', loraBias: true, modulesToSave: ['norm'] },
  };
  it.each(Object.entries(kinds))('gives the same result as uninterrupted training: %s', async (_, config) => {
    const peft = attached(config);
    replaceAdapter(peft, { values: await trainedValues(peft) });
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage, pruned: false });
    const loaded = (await loadPretrained(toyModel(), 'adapter', { methods: [lora], storage })) as PeftModel<LoraConfig>;
    expect(farthestTensor(activeAdapter(loaded).values, activeAdapter(peft).values).distance).toBe(0);
    const again = { ...loaded, seed: peft.seed, adapter: activeAdapter(loaded) }; // the seed of dropout
    expect(farthestTensor(await trainedValues(again), await trainedValues(peft)).distance).toBeLessThan(1e-4);
  });
});
