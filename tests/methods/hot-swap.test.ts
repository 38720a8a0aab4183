import {
  activeAdapter,
  attach,
  hotswapAdapter,
  memoryStorage,
  openSession,
  predict,
  savePretrained,
  train,
} from '@peftjs/core';
import { relativeDistance, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/core/testing';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { describe, expect, it } from 'vitest';

const executor = compiled({ threads: 1 });
const { batches } = toyEvaluationData();
const [batch] = batches as [(typeof batches)[number]];

/** A trained LoRA and a storage with it as the folder 'other'. */
async function stored(options: Parameters<typeof lora>[0], seed: number) {
  const peft = attach(toyModel(), lora(options), { seed });
  await train(peft, toyTrainingData(), { executor, epochs: 4, learningRate: 0.02 });
  const storage = memoryStorage();
  await savePretrained(peft, 'other', { storage });
  return { peft, storage };
}

describe('a hot swap', () => {
  const targetModules = ['query', 'value', 'ffn.in'];

  it('goes on with the compiled graph, with fewer ranks, fewer modules and another scaling', async () => {
    const { peft: other, storage } = await stored({ r: 2, loraAlpha: 7, targetModules: ['value', 'ffn.in'] }, 9);
    const peft = attach(toyModel(), lora({ r: 4, targetModules, initLoraWeights: false }), { seed: 3 });
    const session = openSession(peft.model, activeAdapter(peft), executor);
    const outputs = async (): Promise<ArrayLike<number>> => {
      const values = session.upload(activeAdapter(peft).values);
      const { data } = await session.predict(values, batch);
      session.release(values);
      return data;
    };
    const before = await outputs();
    const compileMs = session.compileMs();
    await hotswapAdapter(peft, 'other', { methods: [lora], storage, adapterName: 'default' });
    const after = await outputs();
    expect(session.compileMs()).toBe(compileMs);
    const expected = (await predict(other, [batch], executor)).flatMap((row) => [...row]);
    expect(relativeDistance(after, expected)).toBeLessThan(1e-5);
    expect(relativeDistance(before, expected)).toBeGreaterThan(1e-2);
    await session.dispose();
  });

  it.each([
    ['more ranks', { r: 5, targetModules }],
    ['more modules', { r: 2, targetModules: [...targetModules, 'ffn.out'] }],
  ])('is refused to an adapter of %s, and changes nothing', async (_, options) => {
    const { storage } = await stored(options, 9);
    const peft = attach(toyModel(), lora({ r: 4, targetModules }), { seed: 3 });
    const adapter = activeAdapter(peft);
    await expect(hotswapAdapter(peft, 'other', { methods: [lora], storage, adapterName: 'default' })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT' }),
    );
    expect(activeAdapter(peft)).toBe(adapter);
  });
});
