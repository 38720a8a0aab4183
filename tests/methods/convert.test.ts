import { bitfit, full, head, houlsby, ia3, pfeiffer } from '@peftjs/baselines';
import { adalora } from '@peftjs/adalora';
import { activeAdapter, attach, convertToLora, predict, train, type PeftModel } from '@peftjs/core';
import { mapTensor, mapValues, UnsupportedError, type ConfiguredMethod } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { referenceExecutor, relativeDistance, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { lnTuning } from '@peftjs/ln-tuning';
import { loha } from '@peftjs/loha';
import { lokr } from '@peftjs/lokr';
import { lora } from '@peftjs/lora';
import { oft } from '@peftjs/oft';
import { sora } from '@peftjs/sora';
import { vera } from '@peftjs/vera';
import { describe, expect, it } from 'vitest';
import { batchOf, load, tiny } from '../models/tiny.js';

const executor = await referenceExecutor();

async function trained(configured: ConfiguredMethod): Promise<PeftModel> {
  const peft = attach(toyModel(), configured, { seed: 3 });
  await train(peft, toyTrainingData(), { executor, epochs: 6, learningRate: 0.02 });
  return peft;
}

async function outputsOf(peft: PeftModel): Promise<number[]> {
  return (await predict(peft, toyEvaluationData().batches, { executor })).flatMap((row) => [...row]);
}

describe('an adapter converted to a LoRA', () => {
  it.each<[string, ConfiguredMethod]>([
    ['full fine-tuning, tables and layer norms included', full()],
    ['full fine-tuning of some modules', full({ targetModules: ['query', 'ffn.in'] })],
    ['BitFit', bitfit()],
    ['IA3', ia3()],
    ['AdaLoRA', adalora({ initR: 4, targetR: 2 })],
    ['SoRA', sora({ r: 4, sparseLambda: 2 })],
    ['VeRA', vera({ r: 6 })],
    ['LoHa', loha({ r: 2, targetModules: ['query', 'ffn.in'] })],
    ['LoKr', lokr({ r: 1, targetModules: ['query', 'ffn.in'] })],
    ['OFT', oft({ oftBlockSize: 4, targetModules: ['query', 'embeddings'] })],
    ['DoRA', lora({ r: 2, useDora: true })],
    ['PiSSA', lora({ r: 2, initLoraWeights: 'pissa' })],
    ['LoRA with all biases', lora({ r: 2, bias: 'all' })],
    ['LoRA of an embedding', lora({ r: 2, targetModules: ['embeddings', 'query'] })],
    ['LoRA with modules saved whole', lora({ r: 1, modulesToSave: ['norm', 'ffn.out'] })],
  ])('from %s gives the same outputs with all the energy', async (_, configured) => {
    const peft = await trained(configured);
    const converted = convertToLora(peft, { method: lora, energy: 1 });
    expect(activeAdapter(converted).method).toBe(lora);
    expect(relativeDistance(await outputsOf(converted), await outputsOf(peft))).toBeLessThan(1e-4);
  });

  it('of a high rank is approximated better by more ranks', async () => {
    const peft = await trained(full({ targetModules: 'all-linear' }));
    const expected = await outputsOf(peft);
    const distances: number[] = [];
    for (const rank of [1, 3, 8]) {
      distances.push(relativeDistance(await outputsOf(convertToLora(peft, { method: lora, rank })), expected));
    }
    expect(distances[1]).toBeLessThan(distances[0] as number);
    expect(distances[2]).toBeLessThan(1e-4);
  });

  it.each([houlsby(), pfeiffer(), head(), bitfit({ targetModules: ['norm'] }), lnTuning()])(
    'is rejected for methods that change no matrix',
    async (configured) => {
      const peft = await trained(configured);
      expect(() => convertToLora(peft, { method: lora, rank: 4 })).toThrow(UnsupportedError);
    },
  );

  it('keeps a table that is also the head in full, and the head tied to it', async () => {
    const model = await load(tiny('llama'), 'next');
    const peft = attach(model, full({ targetModules: ['embed_tokens', 'q_proj'] }));
    const values = mapValues(activeAdapter(peft).values, (tensor) =>
      mapTensor(tensor, (value, at) => value + 0.3 * Math.sin(at)),
    );
    replaceAdapter(peft, { values });
    const converted = convertToLora(peft, { method: lora, energy: 1 });
    expect(activeAdapter(converted).config).toMatchObject({
      modulesToSave: ['model.embed_tokens'],
      ensureWeightTying: true,
    });
    const batches = [batchOf(tiny('llama'), 1)];
    const [expected, actual] = await Promise.all(
      [peft, converted].map(async (each) => (await predict(each, batches, { executor })).flatMap((row) => [...row])),
    );
    expect(relativeDistance(actual ?? [], expected ?? [])).toBeLessThan(1e-4);
  });

  it('is rejected if a module without a bias gets one', async () => {
    const peft = attach(await load(tiny('llama'), 'next'), lora({ r: 1, targetModules: ['q_proj'], loraBias: true }));
    const convert = () => convertToLora(peft, { method: lora, rank: 1 });
    expect(convert).toThrow(UnsupportedError);
    expect(convert).toThrow(/adds a bias to 'model\.layers\.0\.self_attn\.q_proj', which has none/);
  });

  it('is rejected by a method that does not read LoRA', async () => {
    const peft = await trained(lora({ r: 1 }));
    expect(() => convertToLora(peft, { method: ia3, rank: 1 })).toThrow(UnsupportedError);
  });
});
