import { readSafetensors } from '@peftjs/safetensors';
import { expect, it } from 'vitest';
import {
  countParameters,
  loadPretrained,
  memoryStorage,
  savePretrained,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { sizeOf, type TargetConfig } from '@peftjs/core/method';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS } from '@peftjs/core/model';
import { toyModel } from './toy-model.js';
import { attached, expectClose, outputsOf, saved, trained, type Suite } from './suite.js';

/** Tests that a saved adapter can be loaded, and holds as many numbers as are counted. */
export function testFiles<C extends TargetConfig>(suite: Suite<C>): void {
  const load = (storage: Storage): Promise<PeftModel> =>
    loadPretrained(toyModel(), 'adapter', { methods: [suite.method], storage });

  it.each([true, false])('gives the same output saved and loaded (pruned: %s)', async (pruned) => {
    const { peft, storage } = await saved(suite, pruned);
    const again = await load(storage);
    expectClose(await outputsOf(again, suite), await outputsOf(peft, suite));
    expect(countParameters(again).stored).toBe(countParameters(peft).stored);
  });
  it('counts as stored what its file holds, untrained and trained', async () => {
    const storage = memoryStorage();
    for (const peft of [await attached(suite), await trained(suite)]) {
      await savePretrained(peft, 'adapter', { storage });
      const file = readSafetensors(await storage.read(`adapter/${ADAPTER_WEIGHTS}`));
      const held = [...file].map(([name, { shape }]) => (name.includes('.classifier.') ? 0 : sizeOf(shape)));
      expect(countParameters(peft).stored).toBe(held.reduce((sum, size) => sum + size, 0)); // the head is not counted
    }
  });
  it('writes what it read, byte for byte', async () => {
    const { storage } = await saved(suite, false);
    const [first, second] = [memoryStorage(), memoryStorage()];
    await savePretrained(await load(storage), 'adapter', { storage: first, pruned: false });
    await savePretrained(await load(first), 'adapter', { storage: second, pruned: false });
    for (const file of [ADAPTER_CONFIG, ADAPTER_WEIGHTS]) {
      expect(await second.read(`adapter/${file}`)).toEqual(await first.read(`adapter/${file}`));
    }
  });
}
