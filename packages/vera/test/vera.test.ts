import {
  activeAdapter,
  addAdapter,
  attach,
  countParameters,
  getPeftModelStateDict,
  hostTensor,
  loadPretrained,
  memoryStorage,
  onWarning,
  savePretrained,
  setAdapter,
} from '@peftjs/core';
import { tensorAt, type Site } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { layersOf, toyModel, toyOutputs } from '@peftjs/conformance';
import { vera } from '@peftjs/vera';
import { describe, expect, it } from 'vitest';

describe('the stored parameters', () => {
  const roberta = (layers: number, hidden: number): Site[] =>
    Array.from({ length: layers }, (_, layer) =>
      ['query', 'value'].map((name) => linearSite(`layer.${layer}.${name}`, hidden, hidden)),
    ).flat();

  it.each([
    ['base', roberta(12, 768), 1024, 43_008, '0.043'],
    ['large', roberta(24, 1024), 256, 61_440, '0.061'],
  ])("have the paper's count on RoBERTa-%s: r + out for each module", (_, sites, r, exact, printed) => {
    const layers = Object.values(layersOf(vera, sites, { r }));
    expect(layers.reduce((sum, layer) => sum + layer.storedParameters({}), 0)).toBe(exact);
    expect((exact / 1e6).toFixed(3)).toBe(printed);
  });

  it('meet a budget by r alone, or with fewer modules if b is too much', () => {
    const sites = roberta(12, 768);
    const config = vera.parseConfig({});
    expect(vera.fitBudget?.(sites, 36_864, config)).toMatchObject({
      r: 768,
      targetModules: null,
      saveProjection: false,
    });
    const small = vera.fitBudget?.(sites, 2_000, config);
    expect(small?.targetModules).toEqual(['layer.11.query', 'layer.11.value']);
    expect(small?.r).toBe(232);
    expect(() => vera.fitBudget?.(sites, 768, config)).toThrow(expect.objectContaining({ path: 'budget' }));
  });

  it('meet a budget with the shared matrices, if these are to be saved', () => {
    const sites = roberta(12, 768);
    const fitted = vera.fitBudget?.(sites, 36_864, vera.parseConfig({ saveProjection: true }));
    expect(fitted).toMatchObject({ r: 11, saveProjection: true }); // 24 (11 + 768) + 11 (768 + 768) = 35,592
    expect(() => vera.fitBudget?.(sites, 2000, vera.parseConfig({ saveProjection: true }))).toThrow(
      'budget is 2000; with saved matrices as wide as these modules need, one module takes 2305 parameters', // 768 + 768, and 768 + 1
    );
  });

  it('warn of a budget that makes r larger than the modules', () => {
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    const config = vera.parseConfig({});
    for (const budget of [36_864, 36_888]) vera.fitBudget?.(roberta(12, 768), budget, config); // r = 768, 769
    restore();
    expect(warnings).toEqual([
      expect.stringMatching(/36888 .* r is 769, above the 768 features .* without .* r is 256/),
    ]);
  });

  it('include one A and one B for all modules in memory and on disk, or none if the seed is enough', () => {
    const peft = attach(toyModel(), vera({ r: 5 }));
    const shared = Object.keys(activeAdapter(peft).values).filter((key) => key.includes('veraA'));
    expect(shared).toEqual(['veraA']);
    const dict = getPeftModelStateDict(peft);
    expect(tensorAt(dict, 'base_model.vera_A').shape).toEqual([5, 12]); // the widest of inputs 8 and 12
    expect(tensorAt(dict, 'base_model.vera_B').shape).toEqual([12, 5]);
    expect(tensorAt(dict, 'base_model.model.encoder.layer.0.ffn.in.vera_lambda_b').shape).toEqual([12]);
    expect(countParameters(peft).stored).toBe(countParameters(peft).trainable + 5 * (12 + 12));
    const bare = attach(toyModel(), vera({ r: 5, saveProjection: false }));
    expect(countParameters(bare).stored).toBe(countParameters(bare).trainable);
    expect(
      Object.keys(getPeftModelStateDict(bare)).filter(
        (key) => !key.includes('vera_lambda') && !key.includes('classifier'),
      ),
    ).toEqual([]);
  });
});

describe('a file', () => {
  const write = async (r: number) => {
    const storage = memoryStorage();
    await savePretrained(attach(toyModel(), vera({ r })), 'adapter', { storage });
    return storage;
  };

  it('that declares the shared matrices but lacks them is rejected by name', () => {
    const peft = attach(toyModel(), vera({ r: 2 }));
    const { config, tensors } = vera.toFile(activeAdapter(peft), { pruned: true });
    const { vera_B: _, ...rest } = tensors;
    expect(() => vera.fromFile({ config, tensors: rest })).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: 'vera_B' }),
    );
  });

  it("whose shared matrices are wider than its modules need, as PEFT's second VeRA of a model, uses their first parts", () => {
    const sites = [linearSite('q', 4, 3)];
    const tensors = {
      'q.vera_lambda_d': hostTensor(Float32Array.of(1, 1), [2]),
      'q.vera_lambda_b': hostTensor(Float32Array.of(1, 1, 1), [3]),
      vera_A: hostTensor(
        Float32Array.from({ length: 12 }, (_, index) => index),
        [2, 6],
      ),
      vera_B: hostTensor(
        Float32Array.from({ length: 10 }, (_, index) => index),
        [5, 2],
      ),
    };
    const { values } = vera.fromFile({ config: { r: 2, save_projection: true }, tensors, sites });
    expect(values.veraA).toEqual(hostTensor(Float32Array.of(0, 6, 1, 7, 2, 8, 3, 9), [4, 2]));
    expect(values.veraB).toEqual(hostTensor(Float32Array.of(0, 2, 4, 1, 3, 5), [2, 3]));
  });

  it('whose shared matrices have another width is rejected by name', async () => {
    const storage = await write(2);
    const narrow = { ...toyModel(), sites: toyModel().sites.filter(({ path }) => !path.includes('ffn')) };
    await expect(loadPretrained(narrow, 'adapter', { methods: [vera], storage })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT' }),
    );
  });
});

it('keeps the shared matrices of two adapters separate, also on different modules', async () => {
  const peft = attach(toyModel(), vera({ r: 3, targetModules: ['query'] }), { seed: 1 });
  addAdapter(peft, vera({ r: 4, projectionPrngKey: 9, targetModules: ['ffn.in'] }), { adapterName: 'second' });
  for (const [name, adapter] of peft.adapters) {
    const values = Object.entries(adapter.values).map(([key, value]) => {
      if (!key.endsWith('veraLambdaB')) return [key, value] as const;
      return [key, { ...value, data: Float32Array.from(value.data, (_, index) => 1 / (index + 1)) }] as const;
    });
    peft.adapters.set(name, { ...adapter, values: Object.fromEntries(values) });
  }
  const alone = await toyOutputs(peft);
  setAdapter(peft, ['default', 'second']);
  const together = await toyOutputs(peft);
  setAdapter(peft, 'default');
  expect(together).not.toEqual(alone);
  expect(await toyOutputs(peft)).toEqual(alone);
});
