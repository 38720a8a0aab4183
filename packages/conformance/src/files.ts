import { readSafetensors } from '@peftjs/safetensors';
import { expect, it } from 'vitest';
import {
  activeAdapter,
  countParameters,
  loadPretrained,
  memoryStorage,
  savePretrained,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { sizeOf, type HostTensors, type TargetConfig } from '@peftjs/core/method';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, valuesOf } from '@peftjs/core/model';
import { toyModel } from './toy-model.js';
import { farthestTensor } from '@peftjs/core/linalg';
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
    if (pruned) return; // a file for use, not for further training
    const [adapter, read] = [activeAdapter(peft), activeAdapter(again)];
    expect(optionsKept(read.config, suite)).toEqual(optionsKept(adapter.config, suite));
    expect(farthestTensor(valuesKept(read.values, suite), valuesKept(adapter.values, suite)).distance).toBeLessThan(
      1e-5,
    );
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
  it('counts no more ranks than its factors have', async () => {
    const { layers, values } = activeAdapter(await trained(suite));
    for (const [path, layer] of Object.entries(layers)) {
      const own = valuesOf(layer, values);
      const factors = layer.toLora?.(own);
      if (factors) expect(layer.rank?.(own) ?? 0, path).toBeLessThanOrEqual(factors.loraA.shape[1] as number);
    }
    const counted = Object.values(layers).filter(({ rank }) => rank);
    if (counted.length > 0)
      expect(Math.max(...counted.map((layer) => layer.rank?.(valuesOf(layer, values)) ?? 0))).toBeGreaterThan(0);
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

/**
 * Returns the configured options that a file holds as they are. Lists and tables name modules, which a file may name by
 * their paths.
 */
function optionsKept<C extends TargetConfig>(
  parsed: TargetConfig,
  { config, rewritten }: Suite<C>,
): [string, unknown][] {
  return Object.entries(parsed).filter(
    ([option, value]) => option in config && typeof value !== 'object' && !rewritten.includes(option),
  );
}

/** Returns the tensors that a file holds as they are. */
function valuesKept(values: HostTensors, { rewritten }: Pick<Suite, 'rewritten'>): HostTensors {
  const isRewritten = (key: string): boolean => rewritten.some((name) => `.${key}.`.includes(`.${name}.`));
  return Object.fromEntries(Object.entries(values).filter(([key]) => !isRewritten(key)));
}
