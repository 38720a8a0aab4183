// What core promises of adapters whatever their method is: names, removal, folders, status and refusals.
import {
  activeAdapter,
  addAdapter,
  addWeightedAdapter,
  attach,
  convertToLora,
  deleteAdapter,
  disableAdapter,
  getPeftModelStateDict,
  hostTensor,
  hotswapAdapter,
  loadPretrained,
  memoryStorage,
  mergeAdapter,
  mergeAndUnload,
  onWarning,
  predict,
  savePretrained,
  setAdapter,
  setPeftModelStateDict,
  unload,
  PeftError,
  withAdapter,
  type Model,
  type PeftModel,
  type Storage,
} from '@peftjs/core';
import { CheckpointError, ConfigError, mapValues, type CallableMethod, type TargetConfig } from '@peftjs/core/method';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, baseParameters, readAdapterConfig } from '@peftjs/core/model';
import { full } from '@peftjs/baselines';
import { referenceExecutor, relativeDistance, toyEvaluationData, toyModel } from '@peftjs/conformance';
import { loha } from '@peftjs/loha';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';

const { batches } = toyEvaluationData(2, 1);

async function outputs(model: PeftModel | Model): Promise<number[]> {
  const rows = await predict(model, batches, { executor: await referenceExecutor() });
  return rows.flatMap((row) => [...row]);
}

/** Returns the adapter with other numbers, as if trained. */
function changed<C extends TargetConfig>(peft: PeftModel<C>, by: number): PeftModel<C> {
  const { values } = activeAdapter(peft);
  return withAdapter(peft, {
    values: mapValues(values, ({ data, shape }) =>
      hostTensor(
        Float32Array.from(data, (value) => value + by),
        shape,
      ),
    ),
  });
}

it('a module whose path is the end of others is restored alone', async () => {
  const toy = toyModel();
  const path = 'encoder.layer.0.attention.query';
  const site = toy.sites.find((each) => each.path === path) ?? expect.fail(path);
  const ownWeights = { 'query.weight': toy.weights[`${path}.weight`], 'query.bias': toy.weights[`${path}.bias`] };
  const model = {
    ...toy,
    sites: [...toy.sites, { ...site, path: 'query' }],
    weights: { ...toy.weights, ...ownWeights },
  };
  const storage = memoryStorage();
  await savePretrained(attach(model as Model, lora({ r: 2, targetModules: 'query' })), 'adapter', { storage });
  const opened = await loadPretrained(model as Model, 'adapter', { methods: [lora], storage });
  expect(Object.keys(activeAdapter(opened).layers)).toEqual(['query']);
});

/** A model with two adapters, 'default' (active) and 'second'. */
function two<C extends TargetConfig>(method: CallableMethod<C>): PeftModel {
  const peft: PeftModel = changed(attach(toyModel(), method(), { seed: 3 }), 0.1);
  addAdapter(peft, method(), { adapterName: 'second' });
  const { values } = activeAdapter(changed(peft, 0.2));
  peft.adapters.set('second', { ...activeAdapter({ ...peft, active: ['second'] }), values });
  return peft;
}

const methods: Record<string, CallableMethod> = { lora: lora, full: full };

describe.each(Object.entries(methods))('adapters of %s', (_name, method) => {
  const load = (storage: Storage, folder = 'adapter', options: { readonly seed?: number } = {}): Promise<PeftModel> =>
    loadPretrained(toyModel(), folder, { methods: [method], storage, ...options });
  const saved = async (): Promise<Storage> => {
    const storage = memoryStorage();
    await savePretrained(changed(attach(toyModel(), method()), 0.1), 'adapter', { storage });
    return storage;
  };

  it('reject a name that is in use or unknown, and change nothing', () => {
    const peft = two(method);
    const before = { ...peft, adapters: new Map(peft.adapters) };
    expect(() => addAdapter(peft, method(), { adapterName: 'second' })).toThrow(ConfigError);
    expect(() => {
      setAdapter(peft, ['second', 'third']);
    }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'adapterName' }));
    expect(() => {
      deleteAdapter(peft, 'third');
    }).toThrow(ConfigError);
    expect({ ...peft }).toEqual({ ...before });
  });

  it('do not act while disabled, also in nested scopes, and are unchanged afterwards', async () => {
    const peft = two(method);
    const [before, base] = [await outputs(peft), await outputs(peft.model)];
    const [outer, inner] = await disableAdapter(peft, async () => [
      await outputs(peft),
      await disableAdapter(peft, () => outputs(peft)),
    ]);
    expect([outer, inner]).toEqual([base, base]);
    expect(await outputs(peft)).toEqual(before);
  });

  it('act after another one is deleted, and not after all are', async () => {
    const peft = two(method);
    const first = await outputs(peft);
    deleteAdapter(peft, 'second');
    expect(await outputs(peft)).toEqual(first);
    const other = two(method);
    const restore = onWarning(() => undefined);
    deleteAdapter(other, 'default');
    restore();
    expect(other.active).toEqual(['second']);
    expect(relativeDistance(await outputs(other), first)).toBeGreaterThan(1e-3);
    deleteAdapter(other, 'second');
    expect(await outputs(other)).toEqual(await outputs(other.model));
    expect(() => activeAdapter(other)).toThrow(ConfigError);
  });

  it('are gone from the model that unload returns', () => {
    const bare = unload(two(method));
    expect(bare.weights).toEqual(toyModel().weights);
    expect(baseParameters(bare)).toBe(baseParameters(toyModel()));
  });

  it('are not deleted while merged', () => {
    const peft = two(method);
    mergeAdapter(peft);
    expect(() => {
      deleteAdapter(peft, 'default');
    }).toThrow(ConfigError);
    expect([...peft.adapters.keys()]).toEqual(['default', 'second']);
  });

  it('are not merged if that gives weights that are not finite, and nothing changes', () => {
    const peft = changed(two(method), NaN);
    expect(() => {
      mergeAdapter(peft);
    }).toThrow(CheckpointError);
    expect([peft.merged, peft.mergedWeights]).toEqual([[], {}]);
    expect(() => mergeAndUnload(peft)).toThrow(CheckpointError);
    expect(() => mergeAndUnload(peft, { safeMerge: false })).not.toThrow();
  });

  it('are saved as selected, each in a folder of its name', async () => {
    const peft = two(method);
    const storage = memoryStorage();
    await savePretrained(peft, 'all', { storage });
    await savePretrained(peft, 'one', { storage, selectedAdapters: ['second'] });
    expect(await storage.exists(`one/${ADAPTER_CONFIG}`)).toBe(false);
    setAdapter(peft, 'second');
    for (const folder of ['all/second', 'one/second']) {
      const again = await outputs(await load(storage, folder));
      expect(relativeDistance(again, await outputs(peft))).toBeLessThan(1e-5);
    }
  });

  it('are a folder of files, and nothing unsafe', async () => {
    const storage = await saved();
    for (const file of [ADAPTER_CONFIG, ADAPTER_WEIGHTS, 'README.md']) {
      expect(await storage.exists(`adapter/${file}`), file).toBe(true);
    }
    expect(await storage.exists('adapter/adapter_model.bin')).toBe(false);
    const config = JSON.parse(new TextDecoder().decode(await storage.read(`adapter/${ADAPTER_CONFIG}`))) as object;
    expect(config).toMatchObject({ inference_mode: true, peft_type: expect.any(String) as string });
    expect(Object.keys(config)).toEqual(Object.keys(config).sort());
  });

  it('continue with the given seed', async () => {
    const storage = await saved();
    expect((await load(storage)).seed).toBe(0);
    expect((await load(storage, 'adapter', { seed: 5 })).seed).toBe(5);
  });

  it('are rejected with one clear error where their files are broken', async () => {
    const storage = await saved();
    const weights = await storage.read(`adapter/${ADAPTER_WEIGHTS}`);
    await storage.write(`adapter/${ADAPTER_WEIGHTS}`, weights.subarray(0, weights.length - 3));
    await expect(load(storage)).rejects.toThrow(CheckpointError);
    await storage.write(`adapter/${ADAPTER_WEIGHTS}`, weights);
    await storage.write(`adapter/${ADAPTER_CONFIG}`, new TextEncoder().encode('{"peft_type": "NO_SUCH"}'));
    await expect(load(storage)).rejects.toThrow(/NO_SUCH/);
  });
});

it('an adapter of a merged model names no base, because the name is that of the network before', async () => {
  const storage = memoryStorage();
  const merged = mergeAndUnload(attach({ ...toyModel(), name: 'a/b', revision: 'main' }, full()));
  const warnings: string[] = [];
  const restore = onWarning((message) => warnings.push(message));
  await savePretrained(attach(merged, lora({ r: 2 })), 'adapter', { storage });
  restore();
  expect(await readAdapterConfig('adapter', storage)).toMatchObject({ base_model_name_or_path: null, revision: null });
  const card = new TextDecoder().decode(await storage.read('adapter/README.md'));
  expect(card).toContain('# An adapter for a merged copy of `a/b`');
  expect(card).not.toContain('base_model');
  expect(card).toContain('{ model: "merged-b" }');
  expect(warnings).toEqual([
    "this adapter belongs to a merged copy of 'a/b', so its file names no base model: save the copy with saveMerged, and pass that folder as the model when you load the adapter",
  ]);
});

describe('a sum of adapters', () => {
  const on = (...adapters: readonly ('ha' | 'lo')[]): PeftModel => {
    const peft: PeftModel = attach(toyModel(), loha({ r: 2 }), { adapterName: 'ha' });
    addAdapter(peft, lora({ r: 2 }), { adapterName: 'lo' });
    const options = { weights: adapters.map(() => 1), adapterName: 'sum', modulesFrom: 'lo' };
    addWeightedAdapter(peft, { adapters, combinationType: 'cat', ...options });
    return peft;
  };

  it('is of the first method that reads LoRA, wherever that is', () => {
    for (const peft of [on('lo', 'ha'), on('ha', 'lo')]) expect(peft.adapters.get('sum')?.method.name).toBe('lora');
  });

  it('is refused where one trains a module in full that another changes by low rank', () => {
    const peft = attach(toyModel(), lora({ r: 2, modulesToSave: ['encoder.layer.0.ffn.out'] }), {
      adapterName: 'whole',
    });
    addAdapter(peft, lora({ r: 2, targetModules: ['encoder.layer.0.ffn.out'] }), { adapterName: 'low' });
    const shared = { weights: [1, 1], adapters: ['whole', 'low'], combinationType: 'cat', adapterName: 'sum' } as const;
    expect(() => {
      addWeightedAdapter(peft, { ...shared, modulesFrom: 'whole' });
    }).toThrow(
      "'encoder.layer.0.ffn.out' is trained in full by 'whole' and cannot be combined with a low-rank change of it by another adapter",
    );
  });

  it('says what to do if none reads it', () => {
    expect(() => on('ha')).toThrow(
      "none of 'ha' can be written as PEFT's LORA, which a sum is: include an adapter that can",
    );
  });
});

it('a method may be chosen at run time', () => {
  const made = [lora({ r: 2 }), full()].map((method) => activeAdapter(attach(toyModel(), method)).method.name);
  expect(made).toEqual(['lora', 'full']);
});

describe('adapters are not exchanged', () => {
  const peft = two(lora as CallableMethod);

  it('for a state dict with a tensor of another shape', () => {
    const dict = getPeftModelStateDict(peft);
    const [key = ''] = Object.keys(dict);
    const before = activeAdapter(peft);
    expect(() => {
      setPeftModelStateDict(peft, { ...dict, [key]: hostTensor(new Float32Array(1), [1, 1, 1]) });
    }).toThrow(PeftError);
    expect(activeAdapter(peft)).toBe(before);
  });

  it('for a LoRA without ranks, or with more than the whole energy', () => {
    expect(() => convertToLora(peft, { method: lora, rank: 0 })).toThrow(ConfigError);
    expect(() => convertToLora(peft, { method: lora, energy: 2 })).toThrow(ConfigError);
  });

  it.each<[string, Partial<Parameters<typeof addWeightedAdapter>[1]>, string?]>([
    ['too few weights', { weights: [1] }],
    ['a weight that is not finite', { weights: [1, NaN] }],
    ['a name in use', { adapterName: 'second' }],
    ['a rule without its density', { combinationType: 'ties' }],
    ['an impossible density that its rule ignores', { combinationType: 'svd', density: 2 }, 'density'],
    ['no choice of the modules trained in full', { modulesFrom: undefined as never }, 'modulesFrom'],
  ])('for a sum with %s', (_name, wrong, path) => {
    const shared = { adapters: ['default', 'second'], modulesFrom: 'default', weights: [1, 1], adapterName: 'other' };
    expect(() => {
      addWeightedAdapter(peft, { ...shared, ...wrong });
    }).toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', ...(path && { path }) }));
  });

  it('for a file with a module that the method does not adapt', async () => {
    const storage = memoryStorage();
    await savePretrained(attach(toyModel(), lora({ targetModules: ['query', 'embeddings'] })), 'embedded', { storage });
    await expect(loadPretrained(toyModel(), 'embedded', { methods: [sora], storage })).rejects.toThrow(
      /adapts 'embeddings', which 'sora' does not adapt$/,
    );
  });

  it('for a folder that does not exist', async () => {
    const swap = { methods: [lora], storage: memoryStorage(), adapterName: 'default' };
    await expect(hotswapAdapter(peft, 'nowhere', swap)).rejects.toThrow(CheckpointError);
  });
});
