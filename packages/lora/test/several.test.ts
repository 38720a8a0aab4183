import { addAdapter, attach, mergeAndUnload, setAdapter } from '@peftjs/core';
import { relativeDistance, toyModel, toyOutputs, trainToy } from '@peftjs/conformance';
import { lora, type LoraConfig } from '@peftjs/lora';
import { expect, it } from 'vitest';

const kinds: Readonly<Record<string, Partial<LoraConfig>>> = {
  'a trained bias': { bias: 'lora_only' },
  'a trained bias on what PiSSA leaves': { bias: 'lora_only', initLoraWeights: 'pissa' },
  'DoRA on what OLoRA leaves, and a trained bias': { bias: 'lora_only', useDora: true, initLoraWeights: 'olora' },
  DoRA: { useDora: true },
};

it.each(Object.entries(kinds))(
  'gives the same output next to another adapter as when merged with it: %s',
  async (_, options) => {
    const peft = attach(toyModel(), lora({ r: 2, ...options }));
    await trainToy(peft, { epochs: 4, learningRate: 0.05 });
    const alone = await toyOutputs(peft);
    addAdapter(peft, lora({ r: 2, initLoraWeights: false, useDora: true }), { adapterName: 'other' });
    setAdapter(peft, ['default', 'other']);
    const together = await toyOutputs(peft);
    expect(relativeDistance(together, alone)).toBeGreaterThan(0.01);
    expect(relativeDistance(together, await toyOutputs(mergeAndUnload(peft)))).toBeLessThan(1e-5);
  },
);
