import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { onWarning, parseOptions } from '../config.js';
import { attach, defineMethod, frozenModule } from './attach.js';
import type { AdapterLayer } from '../contracts/layer.js';
import type { Model } from '../contracts/model.js';
import type { PeftMethod, TargetConfig } from '../contracts/method.js';
import type { Site } from '../contracts/site.js';
import { toyModel } from '@peftjs/conformance';
import { hostTensor } from '../tensors.js';
import { activeParts } from './active-parts.js';
import {
  addAdapter,
  deleteAdapter,
  disableAdapter,
  fullPrecision,
  mergeAdapter,
  mergeAndUnload,
  setAdapter,
  unmergeAdapter,
} from './adapters.js';
import { rankLayer } from '../ranks/rank-layer.js';
import { biasLayer, fullLayer } from './layers.js';
import { replaceAdapter, type PeftModel } from './peft-model.js';
import { targetEntries } from './targets.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** A fixed change of rank one at every module: the smallest adapter that can be merged. */
const method: PeftMethod = defineMethod<TargetConfig>({
  name: 'rank-one',
  capabilities: { mergeable: true, identityAtInit: false, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input): TargetConfig => parseOptions('rank-one', targetEntries, input),
  adapt: (sites) =>
    Object.fromEntries(
      sites.map((site): [string, AdapterLayer] => {
        const loraA = hostTensor(new Float32Array(site.inFeatures).fill(0.5), [site.inFeatures, 1]);
        const loraB = hostTensor(new Float32Array(site.outFeatures).fill(0.5), [1, site.outFeatures]);
        return [site.path, rankLayer(site, { initial: { loraA, loraB }, scaling: 1 })];
      }),
    ),
  peftTypes: [],
  toFile: () => ({ config: {}, tensors: {} }),
  fromFile: () => ({ config: {}, values: {} }),
});
const configured = { method, config: method.parseConfig({ targetModules: ['query'] }) };
const attached = (model = toyModel()) => attach(model, configured, { adapterName: 'a' });

const warnings: string[] = [];
beforeEach(() => {
  warnings.length = 0;
  return onWarning((message) => warnings.push(message));
});

describe('setAdapter', () => {
  it('activates an adapter added after the last one was deleted', () => {
    const peft = attached();
    deleteAdapter(peft, 'a');
    addAdapter(peft, configured, { adapterName: 'b' });
    setAdapter(peft, 'b');
    expect(peft.active).toEqual(['b']);
    expect(Object.keys(activeParts(peft).layers)).toContain('encoder.layer.0.attention.query');
  });
});

it.each<[string, (peft: PeftModel) => void, string]>([
  ['deleteAdapter', (peft) => deleteAdapter(peft, undefined as never), 'name is missing; expected a text'],
  [
    'setAdapter',
    (peft) => setAdapter(peft, undefined as never),
    "names is missing; expected an adapter's name or a list of names",
  ],
])('%s without a name is refused', (_, act, message) => {
  const peft = attached();
  expect(() => act(peft)).toThrow(message);
  expect([...peft.adapters.keys()]).toEqual(['a']);
});

describe('fullPrecision', () => {
  it('returns a model that can be trained without changing the original adapter', async () => {
    const model = toyModel();
    const peft = attached({ ...model, fullPrecision: () => Promise.resolve(model) });
    const before = peft.adapters.get('a');
    const whole = await fullPrecision(peft);
    replaceAdapter(whole, { values: {} });
    expect(whole.adapters.get('a')?.values).toEqual({});
    expect(peft.adapters.get('a')).toBe(before);
  });
});

describe('a merged model', () => {
  const model: Model = {
    ...toyModel(),
    fullPrecision: () => Promise.resolve(toyModel()),
    withLabels: (labels) => ({ ...model, outputs: labels as number }),
  };
  const merged = mergeAndUnload(attached(model));

  it('is merged in full precision too', async () => {
    const { model: whole } = await fullPrecision(attached(merged));
    expect(whole.weights).toEqual(merged.weights);
    expect(whole.pretrainedHead).toBe(true);
  });

  it('is merged under another head too, and keeps its own where that has as many outputs', () => {
    const [two, three] = [2, 3].map((outputs) => merged.withLabels?.(outputs));
    const { 'classifier.weight': weight, 'classifier.bias': bias } = model.weights;
    expect(two?.weights).toEqual({ ...merged.weights, 'classifier.weight': weight, 'classifier.bias': bias });
    expect(two?.pretrainedHead).toBeUndefined();
    expect(three?.weights).toEqual(merged.weights);
    expect(three?.pretrainedHead).toBe(true);
    expect(two?.withLabels?.(2).pretrainedHead).toBeUndefined();
    expect(two?.withLabels?.(3).weights).toEqual(merged.weights);
  });

  it('has its own fingerprint, derived from the network and the merged weights', () => {
    const twice = mergeAndUnload(attached(merged));
    const known = [model, merged, twice].map(({ fingerprint }) => fingerprint);
    expect(new Set(known).size).toBe(3);
    expect(mergeAndUnload(attached(model)).fingerprint).toBe(merged.fingerprint);
  });

  it('reads a fingerprint once, since a network may compute it', () => {
    const read = vi.fn(() => 'print');
    const peft = attached(Object.defineProperty(toyModel(), 'fingerprint', { get: read, enumerable: true }));
    read.mockClear();
    expect(mergeAndUnload(peft).fingerprint).toMatch(/^print\+/);
    expect(read).toHaveBeenCalledTimes(1);
  });
});

describe('mergeAdapter', () => {
  it('merges an adapter that is named twice only once', () => {
    const [once, twice] = [attached(), attached()];
    mergeAdapter(once, { adapterNames: ['a'] });
    mergeAdapter(twice, { adapterNames: ['a', 'a'] });
    expect(twice.merged).toEqual(['a']);
    expect(twice.mergedWeights).toEqual(once.mergedWeights);
  });
});

describe('merging one of two active adapters', () => {
  const both = (layerOf: (site: Site) => AdapterLayer) => {
    const peft = attached();
    const second = defineMethod({
      ...method,
      adapt: (sites) => Object.fromEntries(sites.map((s) => [s.path, layerOf(s)])),
    });
    addAdapter(peft, second({ targetModules: ['query'] }), { adapterName: 'b' });
    setAdapter(peft, ['a', 'b']);
    return peft;
  };
  const whole = (site: Site) => fullLayer(site, frozenModule(toyModel(), site.path), 'default');
  const biased = (site: Site) => biasLayer(site, frozenModule(toyModel(), site.path), 'default');

  it.each(['a', 'b'])('is refused for %s where the order matters, and changes nothing', (name) => {
    const peft = both(whole);
    expect(() => {
      mergeAdapter(peft, { adapterNames: [name] });
    }).toThrow(/query': '.' cannot be merged apart from '.', which also changes this module; use mergeAndUnload/);
    expect([peft.merged, peft.mergedWeights]).toEqual([[], {}]);
    mergeAdapter(peft);
    expect(peft.merged).toEqual(['a', 'b']);
  });

  it('is possible where both just add: to the weight, and to the bias', () => {
    const peft = both(biased);
    mergeAdapter(peft, { adapterNames: ['a'] });
    expect(peft.merged).toEqual(['a']);
  });

  it('is refused for any other adapter of the module, not only the next', () => {
    const peft = both(whole);
    addAdapter(peft, configured, { adapterName: 'c' });
    setAdapter(peft, ['a', 'c', 'b']);
    expect(() => {
      mergeAdapter(peft, { adapterNames: ['a'] });
    }).toThrow(/'a' cannot be merged apart from 'b'/);
  });
});

describe('unmergeAdapter', () => {
  it('keeps what is compiled if no adapter is merged, and says so', () => {
    const peft = attached();
    const before = activeParts(peft);
    unmergeAdapter(peft);
    expect(activeParts(peft)).toBe(before);
    expect(warnings).toEqual(['unmergeAdapter: no adapter is merged, nothing done']);
  });
});

describe('activeParts', () => {
  it('returns the model itself where nothing is merged, and the same layers while the adapters are the same', () => {
    const peft = attached();
    const [first, again] = [activeParts(peft), activeParts(peft)];
    expect(first.model).toBe(peft.model);
    for (const [path, layer] of Object.entries(first.layers)) expect(again.layers[path]).toBe(layer);
    mergeAdapter(peft);
    expect(activeParts(peft).model.weights).toMatchObject(peft.mergedWeights);
  });

  it('remembers what is active however often it is activated', () => {
    const peft = attached();
    const before = activeParts(peft);
    for (let count = 0; count < 8; count++) setAdapter(peft, 'a');
    expect(activeParts(peft)).toBe(before);
  });

  it('keeps no merged weights after they are unmerged', async () => {
    const peft = attached();
    mergeAdapter(peft);
    const merged = new WeakRef(activeParts(peft).model.weights);
    unmergeAdapter(peft);
    await vi.waitFor(() => {
      collectGarbage(); // not in the job of the reference, which keeps its target
      expect(merged.deref() === undefined).toBe(true); // an error about the object would hold it
    });
  });
});

it('adapters are enabled again after the last of several scopes that disable them', async () => {
  const peft = attached();
  const release: (() => void)[] = [];
  const scopes = [0, 1].map(() => disableAdapter(peft, () => new Promise<void>((done) => release.push(done))));
  release[0]?.();
  await scopes[0];
  expect(peft.enabled).toBe(false);
  release[1]?.();
  await scopes[1];
  expect(peft.enabled).toBe(true);
});
