import {
  activeAdapter,
  attach,
  loadPretrained,
  memoryStorage,
  onWarning,
  savePretrained,
  withAdapter,
} from '@peftjs/core';
import { tensorAt, type AdapterContents, type AdapterFile, type HostTensors } from '@peftjs/core/method';
import { embeddingSite, linearSite } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import { farthestTensor, layersOf, toyModel } from '@peftjs/conformance';
import { lora, type LoraConfig } from '@peftjs/lora';
import { beforeAll, describe, expect, it } from 'vitest';
import { drawn, layersOn, moved } from './harness.js';

const warnings: string[] = [];

beforeAll(() => onWarning((message) => warnings.push(message)));

const sites = [linearSite('up', 3, 5), linearSite('down', 5, 3)];

/** An adapter of two modules whose values differ from their initial ones. */
function adapterOf(options: Partial<LoraConfig>): AdapterContents<LoraConfig> {
  const config = lora.parseConfig(options);
  const module = (shape: [number, number]) => ({ weight: drawn(1, shape), bias: drawn(2, [shape[1]]) });
  const gradients = { up: drawn(3, [3, 5]), down: drawn(4, [5, 3]) };
  const layers = layersOn(sites, { up: module([3, 5]), down: module([5, 3]) }, options, gradients);
  const values: HostTensors = {};
  for (const [path, layer] of Object.entries(layers)) {
    for (const [name, value] of Object.entries(moved(layer))) values[`${path}.${name}`] = value;
  }
  return { config, layers, values };
}

const fileOf = (options: Partial<LoraConfig>, pruned: boolean): AdapterFile =>
  lora.toFile(adapterOf(options), { pruned });

describe('a file', () => {
  it('has the form that PEFT expects, and reads back as the same change of every weight', () => {
    const adapter = adapterOf({ r: 4, rankPattern: { up: 2 }, useRslora: true });
    const file = lora.toFile(adapter, { pruned: true });
    expect(Object.keys(file.tensors).sort()).toEqual([
      'down.lora_A.weight',
      'down.lora_B.weight',
      'up.lora_A.weight',
      'up.lora_B.weight',
    ]);
    expect(file.tensors['up.lora_A.weight']?.shape).toEqual([2, 3]);
    expect(file.config).toMatchObject({ use_rslora: false, use_dora: false, lora_bias: false, bias: 'none' });
    const read = lora.fromFile(file);
    expect(read.values).toEqual(adapter.values);
    for (const [path, layer] of Object.entries(layersOf(lora, sites, read.config))) {
      const own = moved(layer);
      expect(layer.toLora?.(own).scaling).toBeCloseTo(adapter.layers[path]?.toLora?.(own).scaling ?? NaN, 10);
    }
  });

  it("names embeddings' factors as PEFT does", () => {
    const embedding = embeddingSite('words', 7, 4);
    const layers = layersOn([embedding], { words: { weight: drawn(1, [7, 4]) } }, { r: 2 });
    const { loraA, loraB } = moved(tensorAt(layers, 'words'));
    const values = { 'words.loraA': loraA ?? drawn(1, [1]), 'words.loraB': loraB ?? drawn(1, [1]) };
    const { tensors } = lora.toFile({ config: lora.parseConfig({ r: 2 }), layers, values }, { pruned: true });
    expect(Object.entries(tensors).map(([key, { shape }]) => [key, shape])).toEqual([
      ['words.lora_embedding_A', [2, 7]],
      ['words.lora_embedding_B', [4, 2]],
    ]);
  });

  it.each([true, false])('contains use_dora and the magnitudes [out] (pruned: %s)', (pruned) => {
    const adapter = adapterOf({ r: 2, useDora: true });
    const file = lora.toFile(adapter, { pruned });
    expect(file.config).toMatchObject({ peft_type: 'LORA', use_dora: true });
    expect(file.tensors['up.lora_magnitude_vector']).toEqual(adapter.values['up.loraMagnitudeVector']);
    const read = lora.fromFile(file);
    expect(read.config.useDora).toBe(true);
    expect(read.values).toEqual(adapter.values);
  });

  it("holds biases under PEFT's names: those of adapted modules at the module that PEFT wraps", () => {
    const adapted = adapterOf({ r: 2, bias: 'lora_only', loraBias: true });
    const file = lora.toFile(adapted, { pruned: true });
    expect(file.config).toMatchObject({ bias: 'lora_only', lora_bias: true });
    expect(file.tensors['up.base_layer.bias']).toEqual(adapted.values['up.bias']);
    expect(file.tensors['up.lora_B.bias']).toEqual(adapted.values['up.loraBias']);
    expect(lora.fromFile(file).values).toEqual(adapted.values);

    const model = toyModel();
    const adapter = activeAdapter(attach(model, lora({ r: 2, bias: 'all', targetModules: ['query'] })));
    const { tensors } = lora.toFile(adapter, { pruned: true });
    expect(Object.keys(tensors)).toContain('encoder.layer.0.attention.query.base_layer.bias');
    expect(tensors['encoder.layer.0.norm.bias']).toEqual(model.weights['encoder.layer.0.norm.bias']);
    const { 'classifier.weight': _weight, 'classifier.bias': _bias, ...values } = adapter.values;
    expect(lora.fromFile({ config: { ...fileOf({}, true).config, bias: 'all' }, tensors }).values).toEqual(values);
    expect(warnings).toEqual([]);
  });

  it.each(['pissa', 'pissa_niter_4', 'olora', 'lora_ga'] as const)(
    'of %s contains a difference that any reader of LoRA can read',
    (initLoraWeights) => {
      const adapter = adapterOf({ r: 1, initLoraWeights });
      const { config, tensors } = lora.toFile(adapter, { pruned: true });
      expect(config).toMatchObject({ peft_type: 'LORA', r: 2, init_lora_weights: true });
      const { loraA, loraB } =
        adapter.layers.up?.toLora?.({
          ...Object.fromEntries(Object.entries(adapter.values).map(([key, value]) => [key.replace('up.', ''), value])),
        }) ?? expect.fail('toLora is missing');
      expect(tensors['up.lora_A.weight']).toEqual(transposed(loraA));
      expect(tensors['up.lora_B.weight']).toEqual(transposed(loraB));
      expect(Object.keys(tensors)).toHaveLength(4);
    },
  );

  it.each(['pissa', 'olora'] as const)("unpruned equals PEFT's file of %s: A and B unchanged", (initLoraWeights) => {
    const adapter = adapterOf({ r: 2, initLoraWeights });
    const file = lora.toFile(adapter, { pruned: false });
    expect(file.config).toMatchObject({ peft_type: 'LORA', r: 2, init_lora_weights: initLoraWeights });
    expect(lora.fromFile(file)).toMatchObject({ config: { initLoraWeights }, values: adapter.values });
  });

  it.each(['OLoRA', 'OLORA'])("reads PEFT's other spelling of olora: %s", (spelling) => {
    const { config, tensors } = lora.toFile(adapterOf({ r: 2, initLoraWeights: 'olora' }), { pruned: false });
    const read = lora.fromFile({ config: { ...config, init_lora_weights: spelling }, tensors });
    expect(read.config.initLoraWeights).toBe('olora');
  });

  it('unpruned of pissa_niter_N is a file of pissa, which PEFT computes exactly too', () => {
    const file = lora.toFile(adapterOf({ r: 2, initLoraWeights: 'pissa_niter_4' }), { pruned: false });
    expect(file.config).toMatchObject({ init_lora_weights: 'pissa' });
  });

  it('unpruned of LoRA-GA has A0 and B0 and a type that PEFT rejects, because PEFT would misread it', () => {
    const adapter = adapterOf({ r: 1, initLoraWeights: 'lora_ga' });
    const file = lora.toFile(adapter, { pruned: false });
    expect(file.config).toMatchObject({ peft_type: 'LORA_GA', r: 1 });
    expect(file.tensors['down.start_A.weight']?.shape).toEqual([1, 5]);
    const read = lora.fromFile(file);
    expect(read).toMatchObject({ config: { initLoraWeights: 'stored' }, values: adapter.values });
  });

  it('unpruned keeps the fields that only training needs', () => {
    const options = { r: 2, loraDropout: 0.25, loraplusLrRatio: 8, loraFa: true };
    expect(lora.fromFile(fileOf(options, false)).config).toMatchObject(options);
    expect(fileOf(options, true).config).toMatchObject({ lora_dropout: 0 });
    expect(fileOf(options, true).config).not.toHaveProperty('lora_fa');
    expect(lora.fromFile(fileOf(options, false)).values).toEqual(adapterOf(options).values);
  });
});

describe('a LoRA-GA adapter', () => {
  it('is read without calibration and with its saved values', async () => {
    const storage = memoryStorage();
    const peft = attach(toyModel(), lora({ r: 2, initLoraWeights: 'stored' }));
    const values = Object.fromEntries(
      Object.entries(activeAdapter(peft).values).map(([key, { shape }], index) => [key, drawn(index, shape)] as const),
    );
    await savePretrained(withAdapter(peft, { values }), 'adapter', { storage, pruned: false });
    const loaded = await loadPretrained(toyModel(), 'adapter', { methods: [lora], storage });
    expect(farthestTensor(activeAdapter(loaded).values, values).distance).toBe(0);
  });
});

describe('reading', () => {
  it.each([
    [{ init_lora_weights: 'loftq' }, 'init_lora_weights'],
    [{ init_lora_weights: 'lora_ga' }, 'init_lora_weights'],
    [{ init_lora_weights: 'corda' }, 'init_lora_weights'],
    [{ use_qalora: true }, 'use_qalora'],
  ])('rejects fields of variants that peftjs lacks, and of files that lack a part of the model: %o', (fields, path) => {
    const { config, tensors } = fileOf({ r: 2 }, true);
    expect(() => lora.fromFile({ config: { ...config, ...fields }, tensors })).toThrow(
      expect.objectContaining({ code: 'PEFT_UNSUPPORTED', path }),
    );
  });

  it("reads PEFT's other initializations as A and B, which is what they are after training", () => {
    for (const init of ['gaussian', 'eva', 'orthogonal', 'mica', false]) {
      const { config, tensors } = fileOf({ r: 2 }, true);
      const read = lora.fromFile({ config: { ...config, init_lora_weights: init, lora_dropout: 0.1 }, tensors });
      expect(lora.parseConfig(read.config)).toMatchObject({ initLoraWeights: true, loraDropout: 0.1 });
    }
  });

  it('rejects a tensor that the configuration does not declare, because it changes the outputs', () => {
    const { config, tensors } = fileOf({ r: 2, useDora: true }, true);
    expect(() => lora.fromFile({ config: { ...config, use_dora: false }, tensors })).toThrow(
      expect.objectContaining({ code: 'PEFT_UNSUPPORTED', path: 'up.lora_magnitude_vector' }),
    );
  });

  it.each([
    ['lora_magnitude_vector', { useDora: true }],
    ['base_layer.bias', { bias: 'lora_only' as const }],
    ['lora_B.bias', { loraBias: true }],
  ])('names a missing tensor: %s', async (suffix, options) => {
    const storage = memoryStorage();
    const peft = attach(toyModel(), lora({ r: 2, targetModules: ['query'], ...options }));
    const file = lora.toFile(activeAdapter(peft), { pruned: true });
    const method = { ...lora, toFile: () => ({ ...file, tensors: without(file.tensors, suffix) }) };
    await savePretrained(withAdapter(peft, { method }), 'adapter', { storage });
    await expect(loadPretrained(toyModel(), 'adapter', { methods: [lora], storage })).rejects.toThrow(
      expect.objectContaining({
        code: 'PEFT_CHECKPOINT',
        message: expect.stringMatching('layer.0.attention.query') as string,
      }),
    );
  });
});

it("opens PEFT's older files of bias: 'lora_only', which lack the biases, with those of the model", async () => {
  const storage = memoryStorage();
  const peft = attach(toyModel(), lora({ r: 2, targetModules: ['query'], bias: 'lora_only' }));
  const { config, tensors } = lora.toFile(activeAdapter(peft), { pruned: true });
  const older = Object.fromEntries(Object.entries(tensors).filter(([key]) => !key.endsWith('.bias')));
  const method = { ...lora, toFile: () => ({ config, tensors: older }) };
  await savePretrained(withAdapter(peft, { method }), 'adapter', { storage });
  const opened = await loadPretrained(toyModel(), 'adapter', { methods: [lora], storage });
  const path = 'encoder.layer.0.attention.query.bias';
  expect(activeAdapter(opened).values[path]).toEqual(toyModel().weights[path]);
  expect(warnings.splice(0).join()).toMatch(
    /adapter_model\.safetensors: trained biases .* are missing, as in files of PEFT before 0\.21/,
  );
});

function without(tensors: HostTensors, suffix: string): HostTensors {
  return Object.fromEntries(Object.entries(tensors).filter(([key]) => !key.endsWith(`.0.attention.query.${suffix}`)));
}
