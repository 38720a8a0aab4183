import {
  activeAdapter,
  attach,
  deleteAdapter,
  getPeftModelStateDict,
  hotswapAdapter,
  loadPretrained,
  memoryStorage,
  mergeAdapter,
  predict,
  savePretrained,
  setPeftModelStateDict,
  train,
  type Executor,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { relativeDistance, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { compiled } from '@peftjs/engine';
import { lora, truncatedLora } from '@peftjs/lora';
import { describe, expect, it } from 'vitest';

const executor = compiled({ threads: 1 });
const { batches } = toyEvaluationData();
const [batch] = batches as [(typeof batches)[number]];

/** A trained LoRA, and a storage with it in the folder 'other'. */
async function stored(options: Parameters<typeof lora>[0], seed: number) {
  const peft = attach(toyModel(), lora(options), { seed });
  await train(peft, toyTrainingData(), { executor, epochs: 4, learningRate: 0.02 });
  const storage = memoryStorage();
  await savePretrained(peft, 'other', { storage });
  return { peft, storage };
}

describe('a hot swap', () => {
  const targetModules = ['query', 'value', 'ffn.in'];

  it('uses the compiled graph for fewer ranks, fewer modules and another scaling', async () => {
    const { peft: other, storage } = await stored({ r: 2, loraAlpha: 7, targetModules: ['value', 'ffn.in'] }, 9);
    const peft = attach(toyModel(), lora({ r: 4, targetModules, initLoraWeights: false }), { seed: 3 });
    let compilations = 0;
    const counting: Executor = {
      ...(executor as Executor),
      compile(fn, inputs) {
        compilations++;
        return executor.compile(fn, inputs);
      },
    };
    const outputs = async (): Promise<number[]> =>
      (await predict(peft, [batch], { executor: counting })).flatMap((row) => [...row]);
    const before = await outputs();
    await hotswapAdapter(peft, 'other', { methods: [lora], storage, adapterName: 'default' });
    const after = await outputs();
    expect(compilations).toBe(1);
    const expected = (await predict(other, [batch], { executor })).flatMap((row) => [...row]);
    expect(relativeDistance(after, expected)).toBeLessThan(1e-5);
    expect(relativeDistance(before, expected)).toBeGreaterThan(1e-2);
  });

  it('takes an adapter whose modules lost all their ranks, and gives such modules none', async () => {
    const peft = attach(toyModel(), truncatedLora({ r: 2, budget: 100, targetModules }), { seed: 3 });
    await train(peft, toyTrainingData(), { executor, epochs: 4, learningRate: 0.02 });
    const storage = memoryStorage();
    await savePretrained(peft, 'own', { storage });
    const { layers, values } = activeAdapter(peft);
    expect(Object.keys(layers).every((path) => `${path}.loraA` in values)).toBe(false);
    const swap = { methods: [lora], storage, adapterName: 'default' };
    await hotswapAdapter(peft, 'own', swap);
    expect(activeAdapter(peft).values).toEqual(values);
    await savePretrained(attach(toyModel(), lora({ r: 2, targetModules })), 'whole', { storage });
    await expect(hotswapAdapter(peft, 'whole', swap)).rejects.toThrow(/has rank 2, the adapter 'default' has 0$/);
  });

  it('leaves nothing of the adapter that it replaces: no module trained in full, no labels', async () => {
    const { peft: other, storage } = await stored({ r: 2, targetModules }, 9);
    const labelled: Model = { ...toyModel(), labels: ['cat', 'dog', 'hen'], problemType: 'multi_label_classification' };
    const own = attach(labelled, lora({ r: 4, targetModules, modulesToSave: ['norm'] }), { seed: 3 });
    await train(own, toyTrainingData(), { executor, epochs: 1, learningRate: 0.02 });
    await savePretrained(own, 'own', { storage });
    const peft = await loadPretrained(toyModel(), 'own', { methods: [lora], storage });
    expect(activeAdapter(peft)).toMatchObject({ labels: labelled.labels, problemType: labelled.problemType });
    await hotswapAdapter(peft, 'other', { methods: [lora], storage, adapterName: 'default' });
    const { labels, problemType } = activeAdapter(peft);
    expect([labels, problemType]).toEqual([undefined, undefined]);
    const [outputs, expected] = await Promise.all(
      [peft, other].map(async (each) => (await predict(each, [batch], { executor })).flatMap((row) => [...row])),
    );
    expect(relativeDistance(outputs as number[], expected as number[])).toBeLessThan(1e-5);
  });

  it.each([
    ['more ranks', { r: 5, targetModules }],
    ['more modules', { r: 2, targetModules: [...targetModules, 'attention.output'] }],
    ['a module in full that this one adapts', { r: 2, targetModules: ['query'], modulesToSave: ['ffn.in'] }],
    ['ranks for a module that this one trains in full', { r: 2, targetModules: [...targetModules, 'ffn.out'] }],
  ])('is rejected for an adapter with %s, and changes nothing', async (_, options) => {
    const { storage } = await stored(options, 9);
    const peft = attach(toyModel(), lora({ r: 4, targetModules, modulesToSave: ['ffn.out'] }), { seed: 3 });
    const adapter = activeAdapter(peft);
    await expect(hotswapAdapter(peft, 'other', { methods: [lora], storage, adapterName: 'default' })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT' }),
    );
    expect(activeAdapter(peft)).toBe(adapter);
  });

  it.each<[string, (peft: PeftModel) => void, string]>([
    ['merged', (peft) => mergeAdapter(peft), "adapter 'default' is merged into the weights"],
    [
      'changed',
      (peft) => setPeftModelStateDict(peft, getPeftModelStateDict(peft)),
      "adapter 'default' was changed or deleted while other was read",
    ],
    ['deleted', (peft) => deleteAdapter(peft, 'default'), "adapter 'default' was changed or deleted"],
  ])('into an adapter that is %s meanwhile is rejected, and changes nothing', async (_, act, message) => {
    const storage = memoryStorage();
    await savePretrained(attach(toyModel(), lora({ r: 2, targetModules })), 'other', { storage });
    const peft = attach(toyModel(), lora({ r: 4, targetModules }));
    const swapping = hotswapAdapter(peft, 'other', { methods: [lora], storage, adapterName: 'default' });
    act(peft);
    const before = new Map(peft.adapters);
    await expect(swapping).rejects.toThrow(message);
    expect(peft.adapters).toEqual(before);
  });

  it('into an adapter with the scaling 0 is rejected, unless the other has it too', async () => {
    const peft = attach(toyModel(), lora({ r: 2, loraAlpha: 0, targetModules }));
    const swap = { methods: [lora], adapterName: 'default' };
    const { storage } = await stored({ r: 2, targetModules }, 9);
    await expect(hotswapAdapter(peft, 'other', { ...swap, storage })).rejects.toThrow(/has the scaling 0, so no B/);
    const { peft: still, storage: zero } = await stored({ r: 2, loraAlpha: 0, targetModules }, 9);
    await hotswapAdapter(peft, 'other', { ...swap, storage: zero });
    expect(activeAdapter(peft).values).toEqual(activeAdapter(still).values);
  });
});
