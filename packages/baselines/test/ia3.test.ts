import { ia3 } from '@peftjs/baselines';
import { activeAdapter, addAdapter, attach, hostTensor, mergeAndUnload, onWarning, setAdapter } from '@peftjs/core';
import {
  CheckpointError,
  createRng,
  fixedLayer,
  floats,
  sizeOf,
  tensorAt,
  trained,
  type AdapterFile,
  type AdapterLayer,
  type HostTensor,
  type Site,
} from '@peftjs/core/method';
import { linearSite, replaceAdapter } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import { contextOf, layersOf, referenceBackend, tensorsOf, toyModel } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

const sites: readonly Site[] = [
  linearSite('a.query', 4, 4, { role: 'attention.query', layer: 0 }),
  linearSite('a.key', 4, 4, { role: 'attention.key', layer: 0 }),
  linearSite('a.value', 4, 4, { role: 'attention.value', layer: 0 }),
  linearSite('a.output', 4, 4, { role: 'attention.output', layer: 0 }),
  linearSite('a.in', 4, 6, { role: 'ffn.in', layer: 0 }),
  linearSite('a.out', 6, 4, { role: 'ffn.out', layer: 0 }),
  linearSite('b.qkv', 4, 12, { role: 'attention.qkv', layer: 1 }),
];

const sizesOf = (): Record<string, readonly number[]> =>
  Object.fromEntries(
    Object.entries(layersOf(ia3, sites)).map(([path, { params }]) => [path, params.ia3L?.initial.shape ?? []]),
  );

beforeAll(referenceBackend);

describe('what is scaled', () => {
  it('is the output of keys and values, the input of the feed-forward output, and nothing else', () => {
    expect(sizesOf()).toEqual({ 'a.key': [4], 'a.value': [4], 'a.out': [6], 'b.qkv': [12] });
  });

  it('is the whole output of a merged module, including queries', () => {
    const layer = tensorAt(layersOf(ia3, sites), 'b.qkv');
    expect(layer.params.ia3L?.initial.shape).toEqual([layer.site.outFeatures]);
    expect(layer.storedParameters({})).toBe(3 * 4);
  });

  it('is the input of the modules that feedforwardModules names', () => {
    const chosen = sites.filter(({ path }) => /in|out$/.test(path));
    const sizes = (feedforwardModules: string | string[]): (number | undefined)[] =>
      Object.values(layersOf(ia3, chosen, { targetModules: ['in', 'out'], feedforwardModules })).map(
        ({ params }) => params.ia3L?.initial.shape[0],
      );
    expect(sizes(['in'])).toEqual([4, 4]);
    expect(sizes('.*out')).toEqual([6, 6]);
    expect(sizes([])).toEqual([6, 4]);
  });

  it('starts from ones, without weight decay', () => {
    for (const { params } of Object.values(layersOf(ia3, sites))) {
      expect(new Set(params.ia3L?.initial.data)).toEqual(new Set([1]));
      expect(params.ia3L?.decay).toBe(false);
    }
  });

  it('is warned about if feedforwardModules names a module that is not adapted', () => {
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    layersOf(ia3, sites, { feedforwardModules: ['a.out', 'a.inn'] });
    restore();
    expect(warnings).toEqual(['feedforwardModules a.inn match no adapted module']);
  });
});

describe('the layer', () => {
  const model = toyModel();
  const scale = (size: number): HostTensor =>
    hostTensor(
      Float32Array.from({ length: size }, (_, index) => 0.5 + index),
      [size],
    );

  /** Returns the layer's output on one module of the toy model. */
  const outputOf = (layer: AdapterLayer, row: HostTensor): Float32Array =>
    tf.tidy(() => {
      const { x, weight, bias, ia3L } = tensorsOf({
        x: row,
        weight: tensorAt(model.weights, `${layer.site.path}.weight`),
        bias: tensorAt(model.weights, `${layer.site.path}.bias`),
        ia3L: scale(sizeOf(tensorAt(layer.params, 'ia3L').initial.shape)),
      }) as Record<'x' | 'weight' | 'bias' | 'ia3L', tf.Tensor2D>;
      const run = (instead: { readonly x?: tf.Tensor }) => tf.add(tf.matMul(instead.x ?? x, weight), bias);
      const at = { base: () => run({}), run, weight: () => weight, bias: () => bias, ctx: contextOf() };
      return layer.forward(x, { ia3L }, at).dataSync() as Float32Array;
    });

  /** y[j] = sum over i of x[i] W[i, j] scaled(i, j); the bias is scaled too if the output is. */
  const byHand = (path: string, x: Float32Array, scaled: 'input' | 'output'): number[] => {
    const [weight, bias] = [
      floats(tensorAt(model.weights, `${path}.weight`)),
      floats(tensorAt(model.weights, `${path}.bias`)),
    ];
    return Array.from(bias, (shift, output) => {
      const inputs = Array.from(x, (value, input) => value * (scaled === 'input' ? 0.5 + input : 1));
      const y = inputs.reduce(
        (sum, value, input) => sum + value * (weight[input * bias.length + output] as number),
        shift,
      );
      return scaled === 'output' ? y * (0.5 + output) : y;
    });
  };

  it.each([
    ['ffn.in', 'output', [] as string[]],
    ['ffn.out', 'input', ['ffn.out']],
  ] as const)('of %s scales its %s', (name, scaled, feedforwardModules) => {
    const path = `encoder.layer.0.${name}`;
    const { layers } = activeAdapter(attach(model, ia3({ targetModules: [path], feedforwardModules })));
    const layer = tensorAt(layers, path);
    const row = normalValues(createRng(4), [1, layer.site.inFeatures], 1);
    const y = outputOf(layer, row);
    byHand(path, floats(row), scaled).forEach((expected, index) => expect(y[index]).toBeCloseTo(expected, 4));
  });

  it('merges into the weight, and into the bias if the output is scaled', () => {
    const peft = attach(model, ia3({ targetModules: ['encoder.layer.0.ffn.in', 'encoder.layer.0.ffn.out'] }));
    const values = Object.fromEntries(
      Object.entries(activeAdapter(peft).values).map(([name, value]) => [
        name,
        name.endsWith('ia3L') ? scale(value.shape[0] ?? 0) : value,
      ]),
    );
    replaceAdapter(peft, { values });
    const merged = mergeAndUnload(peft).weights;
    const change = (name: string, index: number): number =>
      (tensorAt(merged, name).data[index] ?? NaN) / (tensorAt(model.weights, name).data[index] ?? NaN);
    expect(change('encoder.layer.0.ffn.in.weight', 2 * 12 + 7)).toBeCloseTo(7.5, 4); // [8, 12] at [2, 7]
    expect(change('encoder.layer.0.ffn.in.bias', 7)).toBeCloseTo(7.5, 4);
    expect(change('encoder.layer.0.ffn.out.weight', 7 * 8 + 2)).toBeCloseTo(7.5, 4); // [12, 8] at [7, 2]
    expect(change('encoder.layer.0.ffn.out.bias', 2)).toBe(1);
  });

  it('merges into a bias that another adapter has added to the module', () => {
    const path = 'encoder.layer.0.attention.value';
    const { [`${path}.bias`]: _, ...weights } = model.weights;
    const sites = model.sites.map((site) => (site.path === path ? { ...site, hasBias: false } : site));
    const peft = attach({ ...model, sites, weights }, ia3({ targetModules: [path] }), { adapterName: 'adding' });
    addAdapter(peft, ia3({ targetModules: [path] }), { adapterName: 'scaling' });
    const { layers, values } = activeAdapter(peft);
    const { site } = tensorAt(layers, path);
    const bias = hostTensor(new Float32Array(8).fill(3), [8]);
    const adding = fixedLayer({
      site,
      params: { bias: trained(bias) },
      forward: (_x, p, at) => tf.add(at.base(), tensorAt(p, 'bias')),
      mergedBias: (values) => tensorAt(values, 'bias'),
    });
    replaceAdapter(peft, { layers: { [path]: adding }, values: { ...values, [`${path}.bias`]: bias } }, 'adding');
    replaceAdapter(peft, { values: { [`${path}.ia3L`]: scale(8) } }, 'scaling');
    setAdapter(peft, ['adding', 'scaling']);
    const merged = tensorAt(mergeAndUnload(peft).weights, `${path}.bias`);
    expect([...merged.data]).toEqual(Array.from(scale(8).data, (factor) => 3 * factor));
  });
});

describe('files', () => {
  const config = ia3.parseConfig({});
  const layers = layersOf(ia3, sites, config);
  const values = Object.fromEntries(
    Object.values(layers).map(({ site: { path }, params }) => [
      `${path}.ia3L`,
      normalValues(createRng(1).fork(path), tensorAt(params, 'ia3L').initial.shape, 1),
    ]),
  );
  const file = ia3.toFile({ config, layers, values }, { pruned: true });

  it("are PEFT's IA3: [out, 1], or [1, in] if the input is scaled", () => {
    expect(file.config).toMatchObject({
      peft_type: 'IA3',
      target_modules: ['a.key', 'a.value', 'a.out', 'b.qkv'],
      feedforward_modules: ['a.out'],
    });
    expect(Object.fromEntries(Object.entries(file.tensors).map(([key, { shape }]) => [key, shape]))).toEqual({
      'a.key.ia3_l': [4, 1],
      'a.value.ia3_l': [4, 1],
      'a.out.ia3_l': [1, 6],
      'b.qkv.ia3_l': [12, 1],
    });
  });

  it("of PEFT are read by their tensors' shapes, which show where the input is scaled", () => {
    const peft: AdapterFile = {
      config: { peft_type: 'IA3', target_modules: ['key', 'output', 'out'], feedforward_modules: 'of no matter' },
      tensors: {
        'a.key.ia3_l': hostTensor(new Float32Array(4), [4, 1]),
        'a.output.ia3_l': hostTensor(new Float32Array(4), [1, 4]),
        'a.out.ia3_l': hostTensor(new Float32Array(6), [1, 6]),
      },
    };
    const { config, values } = ia3.fromFile(peft);
    expect(config).toEqual({
      targetModules: ['a.key', 'a.output', 'a.out'],
      feedforwardModules: ['a.output', 'a.out'],
    });
    expect(values['a.out.ia3L']?.shape).toEqual([6]);
  });

  it('name the invalid tensor', () => {
    const matrix = { 'a.key.ia3_l': hostTensor(new Float32Array(8), [4, 2]) };
    expect(() => ia3.fromFile({ ...file, tensors: matrix })).toThrow(/'a.key.ia3_l' has shape \[4, 2\]/);
    expect(() => ia3.fromFile({ ...file, tensors: {} })).toThrow(CheckpointError);
  });
});
