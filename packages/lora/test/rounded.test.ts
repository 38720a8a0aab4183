import {
  activeAdapter,
  attach,
  fullPrecision,
  getPeftModelStateDict,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  predict,
  savePretrained,
  setPeftModelStateDict,
  type Model,
  type PeftModel,
} from '@peftjs/core';
import { createRng, floats, mapValues, type HostTensor } from '@peftjs/core/method';
import { normalValues } from '@peftjs/core/linalg';
import { quantizedModel, replaceAdapter } from '@peftjs/core/model';
import { referenceExecutor, relativeDistance, toyEvaluationData, toyModel } from '@peftjs/conformance';
import { lora } from '@peftjs/lora';
import { expect, it } from 'vitest';

/* Adapters that were trained on weights in 8 bits. */

const executor = await referenceExecutor();
const whole = toyModel();
const held = { ...quantizedModel(whole), fullPrecision: () => Promise.resolve(whole) };

const outputsOf = async (model: PeftModel | Model): Promise<number[]> =>
  (await predict(model, toyEvaluationData().batches, { executor })).flatMap((row) => [...row]);

/** Returns a tensor with other numbers, as after training. */
function moved(tensor: HostTensor): HostTensor {
  const noise = floats(normalValues(createRng(3), tensor.shape, 0.1));
  return { ...tensor, data: floats(tensor).map((value, index) => value + (noise[index] as number)) };
}

it.each([
  { useDora: true },
  { initLoraWeights: 'pissa' as const },
  { initLoraWeights: 'olora' as const },
  { initLoraWeights: 'pissa' as const, useDora: true },
])(
  'on the float32 weights, %o computes what is merged into them, and what a file of either kind gives',
  async (options) => {
    const peft = attach(held, lora({ r: 2, targetModules: ['query', 'value'], ...options }), { seed: 1 });
    replaceAdapter(peft, { values: mapValues(activeAdapter(peft).values, moved) });
    const exact = await fullPrecision(peft);
    const merged = await outputsOf(mergeAndUnload(exact));
    expect(relativeDistance(await outputsOf(exact), merged)).toBeLessThan(1e-5);
    expect(relativeDistance(await outputsOf(peft), merged)).toBeGreaterThan(1e-3);
    const state = getPeftModelStateDict(peft);
    setPeftModelStateDict(peft, state);
    expect(getPeftModelStateDict(peft)).toEqual(state);
    for (const saved of [peft, exact]) {
      for (const pruned of [true, false]) {
        const storage = memoryStorage();
        await savePretrained(saved, 'adapter', { storage, pruned });
        const loaded = await loadPretrained(whole, 'adapter', { storage, methods: [lora] });
        expect(relativeDistance(await outputsOf(loaded), merged)).toBeLessThan(1e-5);
      }
    }
  },
);
