import { expect, it } from 'vitest';
import * as tf from '@tensorflow/tfjs-core';
import {
  activeAdapter,
  addAdapter,
  disableAdapter,
  mergeAdapter,
  mergeAndUnload,
  onWarning,
  setAdapter,
  unmergeAdapter,
  withAdapter,
  type Model,
} from '@peftjs/core';
import {
  ConfigError,
  defineMethod,
  fileFormat,
  fixedLayer,
  hostFilled,
  parseOptions,
  targetEntries,
  tensorAt,
  trained as trainedTensor,
  UnsupportedError,
  type TargetConfig,
} from '@peftjs/core/method';
import { canActTogether, twoAdapters } from './several.js';
import { attached, expectApart, expectClose, outputsOf, trained, trainInSuite, type Suite } from './suite.js';
import { toyModel } from './toy-model.js';

/** Tests merging and unmerging, or that a method that cannot be merged says so. */
export function testMerging<C extends TargetConfig>(suite: Suite<C>): void {
  const { method } = suite;
  if (!method.capabilities.mergeable) {
    it('rejects merging, because it does more than change weights', async () => {
      const peft = await trained(suite);
      expect(() => mergeAndUnload(peft)).toThrow(UnsupportedError);
      expect(() => {
        mergeAdapter(peft);
      }).toThrow(UnsupportedError);
      expect(peft.merged).toEqual([]);
    });
    return;
  }
  it('gives the same output merged', async () => {
    const peft = await twoAdapters(suite);
    const [merged, adapted] = [await outputsOf(mergeAndUnload(peft), suite), await outputsOf(peft, suite)];
    expectClose(merged, adapted);
    if (Object.keys(activeAdapter(peft).layers).length === 0) return; // only a head
    expectApart(merged, await outputsOf(withAdapter(peft, { layers: {} }), suite));
  });
  it('merges in place, once, and unmerges bit for bit', async () => {
    const peft = await twoAdapters(suite);
    const adapted = await outputsOf(peft, suite);
    mergeAdapter(peft);
    const merged = await outputsOf(peft, suite);
    expectClose(merged, adapted);
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    mergeAdapter(peft);
    restore();
    expect(warnings).toEqual([expect.stringContaining('already merged')]);
    expect(await outputsOf(peft, suite)).toEqual(merged);
    expect(await disableAdapter(peft, () => outputsOf(peft, suite))).toEqual(await outputsOf(peft.model, suite));
    unmergeAdapter(peft);
    expect(await outputsOf(peft, suite)).toEqual(adapted);
    expect(peft.model.weights).toEqual(toyModel().weights);
  });
  it('merges several at once as in turn, with the outputs of all acting together', async () => {
    const [atOnce, inTurn] = [await twoAdapters(suite), await twoAdapters(suite)];
    if (!canActTogether(atOnce)) {
      expect(() => {
        mergeAdapter(atOnce, { adapterNames: ['default', 'second'] });
      }).toThrow(ConfigError);
      expect(atOnce.mergedWeights).toEqual({});
      return;
    }
    setAdapter(atOnce, ['default', 'second']);
    const together = await outputsOf(atOnce, suite);
    mergeAdapter(atOnce);
    expectClose(await outputsOf(atOnce, suite), together);
    for (const name of ['default', 'second']) mergeAdapter(inTurn, { adapterNames: [name] });
    expect(await outputsOf(inTurn, suite)).toEqual(await outputsOf(atOnce, suite));
  });
  testMergingApart(suite);
  testAddedBiases(suite);
}

/** Tests that merging one of two active adapters keeps the outputs, or is refused. */
function testMergingApart<C extends TargetConfig>(suite: Suite<C>): void {
  it('merges one of two that act together with the same output, or refuses', async () => {
    const peft = await twoAdapters(suite);
    if (!canActTogether(peft)) return;
    setAdapter(peft, ['default', 'second']);
    const together = await outputsOf(peft, suite);
    try {
      mergeAdapter(peft, { adapterNames: ['second'] });
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedError);
    }
    expectClose(await outputsOf(peft, suite), together);
  });
}

/** Tests merging where an earlier adapter has given biases to modules without their own, as LoRA's `loraBias` does. */
function testAddedBiases<C extends TargetConfig>(suite: Suite<C>): void {
  it('merges into biases that another adapter has added, or refuses', async () => {
    if (!canActTogether(await attached(suite))) return;
    const peft = await attached(suite, { model: withoutBiases(toyModel()) });
    await trainInSuite(peft, suite, { epochs: 4 });
    addAdapter(peft, addedBias({ targetModules: 'all-linear' }), { adapterName: 'adding' });
    setAdapter(peft, ['adding', 'default']);
    let merged: Model;
    try {
      merged = mergeAndUnload(peft);
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedError);
      return;
    }
    expectClose(await outputsOf(merged, suite), await outputsOf(peft, suite));
  });
}

/** The model without the biases of its linear modules, except the head's. */
function withoutBiases(model: Model): Model {
  const without = model.sites.filter(({ kind, role }) => kind === 'linear' && role !== 'head');
  return {
    ...model,
    sites: model.sites.map((site) => (without.includes(site) ? { ...site, hasBias: false } : site)),
    weights: Object.fromEntries(
      Object.entries(model.weights).filter(([name]) => !without.some(({ path }) => name === `${path}.bias`)),
    ),
  };
}

/** Adds 1 to each output of a module. */
const addedBias = defineMethod<TargetConfig>({
  name: 'added-bias',
  capabilities: { mergeable: true, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input) => parseOptions('added-bias', targetEntries, input),
  adapt: (sites) =>
    Object.fromEntries(
      sites.map((site) => [
        site.path,
        fixedLayer({
          site,
          params: { bias: trainedTensor(hostFilled([site.outFeatures], 1)) },
          forward: (_x, p, at) => tf.add(at.base(), tensorAt(p, 'bias')), // [rows, out]
          mergedBias: (values) => tensorAt(values, 'bias'),
        }),
      ]),
    ),
  ...fileFormat({ peftType: 'ADDED_BIAS', tensors: { bias: ['.added_bias', 'out'] } }),
});
