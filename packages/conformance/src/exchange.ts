import { expect, it } from 'vitest';
import {
  activeAdapter,
  activeRanks,
  addWeightedAdapter,
  convertToLora,
  getPeftModelStateDict,
  hotswapAdapter,
  memoryStorage,
  savePretrained,
  setAdapter,
  setPeftModelStateDict,
  withAdapter,
  type PeftModel,
} from '@peftjs/core';
import { allLayers, mapTensor, tensorAt, type HostTensors, type TargetConfig } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { trainedTensors } from '@peftjs/core/runtime';
import { attached, expectApart, expectClose, outputsOf, trained, type Suite } from './suite.js';
import { twoAdapters } from './several.js';

/** Tests state dicts, weighted sums of adapters, conversion to plain LoRA, and hot swapping. */
export function testExchange<C extends TargetConfig>(suite: Suite<C>): void {
  it('returns its values as a state dict and restores them from it', async () => {
    const peft = await twoAdapters(suite);
    const [adapted, dict] = [await outputsOf(peft, suite), getPeftModelStateDict(peft)];
    expect(Object.keys(dict).every((key) => key.startsWith('base_model.'))).toBe(true);
    replaceAdapter(peft, { values: halved(peft) });
    expectApart(await outputsOf(peft, suite), adapted);
    setPeftModelStateDict(peft, dict);
    expectClose(await outputsOf(peft, suite), adapted);
  });
  testConversion(suite);
  testWeighted(suite);
  testHotSwap(suite);
}

/** Returns the adapter's values with every trained tensor halved. */
function halved(peft: PeftModel): HostTensors {
  const adapter = activeAdapter(peft);
  const trained = trainedTensors(allLayers(adapter)).map(({ key }) => key);
  const half = trained.map((key) => [key, mapTensor(tensorAt(adapter.values, key), (value) => value / 2)] as const);
  return { ...adapter.values, ...Object.fromEntries(half) };
}

function testConversion<C extends TargetConfig>(suite: Suite<C>): void {
  const { method } = suite;
  if (!method.peftTypes.includes('LORA')) {
    it.skip(
      `converts to fewer ranks (skipped: ${method.name} does not read low-rank files; tests/methods/convert.test.ts does)`,
    );
    return;
  }
  it('converts exactly to a LoRA with enough ranks, and approximately to one with few', async () => {
    const peft = await trained(suite);
    const adapted = await outputsOf(peft, suite);
    expectClose(await outputsOf(convertToLora(peft, { method, energy: 1 }), suite), adapted, 1e-4);
    const small = convertToLora(peft, { method, rank: 1 });
    const { layers, values } = activeAdapter(small);
    expect(Math.max(...Object.values(activeRanks(layers, values)))).toBeLessThanOrEqual(1);
    const error = (await outputsOf(small, suite)).map((value, index) => (value - (adapted[index] as number)) ** 2);
    expect(error.reduce((sum, value) => sum + value, 0) / error.length).toBeLessThan(0.5);
  });
}

function testWeighted<C extends TargetConfig>(suite: Suite<C>): void {
  const { name: config, method } = suite;
  it(`can be combined with others by weights, if it is plain LoRA on disk (${config})`, async () => {
    const peft = await twoAdapters(suite);
    const isPlain = Object.values(activeAdapter(peft).layers).every(({ toLora, mergedBias }) => toLora && !mergedBias);
    const shared = { adapters: ['default', 'second'], modulesFrom: 'default' };
    if (!isPlain || !method.peftTypes.includes('LORA')) {
      expect(() => {
        addWeightedAdapter(peft, { ...shared, weights: [1, 1], adapterName: 'sum' });
      }).toThrow(expect.objectContaining({ code: 'PEFT_UNSUPPORTED' }));
      expect(peft.adapters.has('sum')).toBe(false);
      return;
    }
    const headOnly = await outputsOf(withAdapter(peft, { layers: {} }), suite);
    const both = { ...peft, active: ['default', 'second'] };
    addWeightedAdapter(peft, { ...shared, weights: [1, 1], adapterName: 'cat', combinationType: 'cat' });
    setAdapter(peft, 'cat');
    expectClose(await outputsOf(peft, suite), await outputsOf(both, suite), 1e-4);
    const zero = { adapters: ['default', 'default'], weights: [1, -1], combinationType: 'cat' } as const;
    addWeightedAdapter(peft, { ...zero, adapterName: 'zero' });
    setAdapter(peft, 'zero');
    expectClose(await outputsOf(peft, suite), headOnly, 1e-4);
  });
}

function testHotSwap<C extends TargetConfig>(suite: Suite<C>): void {
  it('can replace another adapter in a running model, if it is only A and B', async () => {
    // The same seed for both: ranks chosen by gradients depend on the head, which the seed initialises.
    const [peft, other] = [await attached(suite, { seed: 9 }), await trained(suite, 2, 9)];
    const storage = memoryStorage();
    await savePretrained(other, 'other', { storage, pruned: false });
    const swap = hotswapAdapter(peft, 'other', { methods: [suite.method], storage, adapterName: 'default' });
    const names = Object.values(activeAdapter(peft).layers).map(({ params, state = {}, frozenWeight, mergedBias }) =>
      frozenWeight || mergedBias
        ? 'more'
        : Object.keys({ ...params, ...state })
            .sort()
            .join(),
    );
    if (names.some((each) => each !== 'loraA,loraB')) {
      await expect(swap).rejects.toThrow(expect.objectContaining({ code: 'PEFT_UNSUPPORTED' }));
      return;
    }
    const { layers } = activeAdapter(peft);
    expectApart(await outputsOf(peft, suite), await outputsOf(other, suite));
    await swap;
    expect(activeAdapter(peft).layers).toBe(layers);
    expectClose(await outputsOf(peft, suite), await outputsOf(other, suite), 1e-4);
  });
}
