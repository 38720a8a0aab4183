import { houlsby, pfeiffer, type BottleneckConfig, type NonLinearity } from '@peftjs/baselines';
import { activeAdapter, attach, withAdapter } from '@peftjs/core';
import {
  CheckpointError,
  createRng,
  floats,
  hostZeros,
  mapValues,
  tensorAt,
  type AdapterLayer,
  type HostTensors,
} from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import {
  adapterValues,
  forwardOf,
  initialOf,
  layerOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
  toyModel,
  toyOutputs,
} from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

/** Sets every tensor to nonzero values, so that a mistake in any of them shows. */
const trainedOf = (layer: AdapterLayer): HostTensors =>
  mapValues(initialOf(layer), ({ shape }, name) => normalValues(createRng(3).fork(name), shape, 1));

/** Returns h + f(h D + d) U + u for one row, in double precision. */
function byHand(h: readonly number[], values: HostTensors, f: (x: number) => number): number[] {
  const [down, downBias, up, upBias] = ['down', 'downBias', 'up', 'upBias'].map((name) =>
    floats(tensorAt(values, name)),
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const width = downBias.length;
  const hidden = Array.from(downBias, (bias, m) =>
    f(h.reduce((sum, value, feature) => sum + value * (down[feature * width + m] as number), bias)),
  );
  return h.map((value, feature) =>
    hidden.reduce(
      (sum, unit, m) => sum + unit * (up[m * h.length + feature] as number),
      value + (upBias[feature] as number),
    ),
  );
}

const deviation = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);

beforeAll(referenceBackend);

describe('the adapter', () => {
  const references: Record<NonLinearity, (x: number) => number> = {
    gelu_new: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    gelu: (x) => x * normalCdf(x),
    relu: (x) => Math.max(0, x),
    swish: (x) => x / (1 + Math.exp(-x)),
  };

  it.each(Object.entries(references))('is h + f(h D + d) U + u with f = %s', (name, f) => {
    const layer = layerOf(houlsby, { targetModules: ['m'], bottleneck: 3, nonLinearity: name as NonLinearity }, [6, 4]);
    const values = trainedOf(layer);
    const rows = [
      [0.5, -1, 2, 0.25],
      [-0.75, 1.5, 0, -2],
    ];
    const actual = tf.tidy(() => forwardOf(layer, tensorsOf(values), tf.zeros([2, 6]), tf.tensor2d(rows)).dataSync());
    const expected = rows.flatMap((row) => byHand(row, values, f));
    expect(relativeDistance(actual, expected)).toBeLessThan(1e-5);
  });

  it('draws both weights with standard deviation 0.01, not truncated, and starts both biases from zero', () => {
    const initial = initialOf(layerOf(houlsby, { targetModules: ['m'], bottleneck: 50 }, [2, 400]));
    for (const name of ['down', 'up']) {
      const weight = floats(tensorAt(initial, name));
      expect(weight).toHaveLength(20_000);
      expect(Math.abs(deviation(weight) / 0.01 - 1)).toBeLessThan(0.03);
      expect(Math.max(...weight)).toBeGreaterThan(0.03);
    }
    for (const name of ['downBias', 'upBias']) expect(new Set(floats(tensorAt(initial, name)))).toEqual(new Set([0]));
  });

  it.each(Object.entries({ houlsby, pfeiffer }))(
    'starts near the identity, but not exactly there: %s',
    async (_, method) => {
      const peft = attach(toyModel(), method(), { seed: 3 });
      const bare = withAdapter(peft, { layers: {} });
      const distance = relativeDistance(await toyOutputs(peft), await toyOutputs(bare));
      expect(distance).toBeGreaterThan(1e-6);
      expect(distance).toBeLessThan(3e-3);
    },
  );
});

describe('an adapter without u', () => {
  it('is h + f(h D + d) U, and is read back from its file', () => {
    const config = houlsby.parseConfig({ targetModules: ['m'], bottleneck: 3, withoutBias: ['m'] });
    const layers = layersOf(houlsby, [linearSite('m', 6, 4)], config);
    const values = trainedOf(tensorAt(layers, 'm'));
    expect(Object.keys(values)).toEqual(['down', 'downBias', 'up']);
    const row = [0.5, -1, 2, 0.25];
    const actual = tf.tidy(() =>
      forwardOf(tensorAt(layers, 'm'), tensorsOf(values), tf.zeros([1, 6]), tf.tensor2d([row])).dataSync(),
    );
    const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    const expected = byHand(row, { ...values, upBias: hostZeros([4]) }, gelu);
    expect(relativeDistance(actual, expected)).toBeLessThan(1e-5);
    const contents = adapterValues({ m: values });
    const file = houlsby.toFile({ config, layers, values: contents }, { pruned: true });
    expect(file.config.without_bias).toEqual(['m']);
    expect(houlsby.fromFile(file)).toMatchObject({ config: { withoutBias: ['m'] }, values: contents });
  });
});

describe('its positions', () => {
  const pathsOf = (method: typeof houlsby, options: Partial<BottleneckConfig> = {}): string[] =>
    Object.keys(activeAdapter(attach(toyModel(), method(options))).layers);

  it('are after the attention and after the feed-forward block of every layer for Houlsby', () => {
    expect(pathsOf(houlsby)).toEqual(
      [0, 1].flatMap((layer) => [`encoder.layer.${layer}.attention.output`, `encoder.layer.${layer}.ffn.out`]),
    );
  });

  it('are after the feed-forward block only for Pfeiffer', () => {
    expect(pathsOf(pfeiffer)).toEqual(['encoder.layer.0.ffn.out', 'encoder.layer.1.ffn.out']);
  });

  it('are after the named modules, whatever their roles', () => {
    expect(pathsOf(houlsby, { targetModules: ['query'], layersToTransform: [1] })).toEqual([
      'encoder.layer.1.attention.query',
    ]);
    expect(pathsOf(houlsby, { excludeModules: ['ffn.out'] })).toHaveLength(2);
  });

  it('are missing if no module has the role, with an error that says what to do', () => {
    expect(() => layersOf(pfeiffer, [linearSite('m', 2, 2)])).toThrow(
      /no module with the role 'ffn.out'; name the modules in targetModules/,
    );
  });

  it('leave the layer norms frozen, unless modulesToSave names them', () => {
    const adapter = activeAdapter(attach(toyModel(), houlsby({ modulesToSave: ['norm'] })));
    expect(Object.keys(adapter.layers).some((path) => path.endsWith('norm'))).toBe(false);
    expect(Object.keys(adapter.saved)).toEqual(expect.arrayContaining(['encoder.layer.0.norm']));
  });
});

describe('budgets', () => {
  const sites = [0, 1, 2].flatMap((layer) => [
    linearSite(`layer.${layer}.o`, 96, 96, { role: 'attention.output', layer }),
    linearSite(`layer.${layer}.down`, 384, 96, { role: 'ffn.out', layer }),
    linearSite(`layer.${layer}.up`, 96, 384, { role: 'ffn.in', layer }),
  ]);
  const storedOf = (method: typeof houlsby, options: Partial<BottleneckConfig>): number =>
    Object.values(layersOf(method, sites, options)).reduce(
      (sum, layer) => sum + layer.storedParameters(initialOf(layer)),
      0,
    );

  it.each([
    ['houlsby', houlsby, 4000],
    ['houlsby', houlsby, 12_345],
    ['pfeiffer', pfeiffer, 4000],
    ['pfeiffer', pfeiffer, 12_345],
  ])('are met within one unit of one adapter: %s', (_, method, budget) => {
    const fitted = method.fitBudget?.(sites, budget, method.parseConfig({})) ?? {};
    expect(Math.abs(storedOf(method, fitted) - budget)).toBeLessThan(2 * 96 + 1);
    expect(fitted).toMatchObject({ withoutBias: [], targetModules: '.*' });
  });

  const fitted = (budget: number): Partial<BottleneckConfig> =>
    houlsby.fitBudget?.(sites, budget, houlsby.parseConfig({})) ?? expect.fail('takes no budget');

  it('drop biases of the lowest adapters, as few as needed to come within 2 %', () => {
    const biased = 6 * (2 * 96 + 1 + 96);
    expect(fitted(biased)).toMatchObject({ bottleneck: 1, bottleneckPattern: {}, withoutBias: [] });
    const less = fitted(biased - 96);
    expect(less).toMatchObject({ bottleneck: 1, withoutBias: ['layer.0.o'] });
    expect(storedOf(houlsby, less)).toBe(biased - 96);
  });

  it('drop the lowest adapters if width 1 without biases is too much', () => {
    const four = fitted(4 * (2 * 96 + 1));
    expect(four).toMatchObject({
      targetModules: ['layer.1.o', 'layer.1.down', 'layer.2.o', 'layer.2.down'],
      withoutBias: ['layer.1.o', 'layer.1.down', 'layer.2.o', 'layer.2.down'],
    });
    const kept = sites.filter(({ path }) => four.targetModules?.includes(path));
    const layers = Object.values(layersOf(houlsby, kept, four));
    expect(layers.map((layer) => layer.storedParameters(initialOf(layer)))).toEqual([193, 193, 193, 193]);
    expect(() => fitted(192)).toThrow('the smallest adapter of one of 6 modules takes 193 parameters');
  });
});

describe('files', () => {
  const sites = [
    linearSite('a.out', 5, 3, { role: 'ffn.out' }),
    linearSite('b.out', 5, 3, { role: 'ffn.out' }),
    linearSite('c.out', 5, 2, { role: 'ffn.out' }),
  ];
  const config = pfeiffer.parseConfig({ bottleneck: 4, bottleneckPattern: { 'b.out': 2 }, nonLinearity: 'relu' });
  const layers = layersOf(pfeiffer, sites, config);
  const values = adapterValues(mapValues(layers, trainedOf));
  const file = pfeiffer.toFile({ config, layers, values }, { pruned: true });

  it("hold two linear modules per adapter, in torch's layout", () => {
    expect(file.config).toEqual({
      peft_type: 'PFEIFFER',
      bottleneck: 4,
      bottleneck_pattern: { 'b.out': 2 },
      without_bias: [],
      non_linearity: 'relu',
      target_modules: ['a.out', 'b.out', 'c.out'],
    });
    const shapes = Object.fromEntries(Object.entries(file.tensors).map(([key, { shape }]) => [key, shape]));
    expect(shapes).toMatchObject({
      'b.out.adapter_down.weight': [2, 3],
      'b.out.adapter_down.bias': [2],
      'b.out.adapter_up.weight': [3, 2],
      'b.out.adapter_up.bias': [3],
    });
    const [down, torchDown] = [values['c.out.down'], file.tensors['c.out.adapter_down.weight']];
    expect(torchDown?.data[1]).toBe(down?.data[4]); // [0, 1] of [m, out] is [1, 0] of [out, m]
  });

  it('read back to the same values and widths', () => {
    const read = pfeiffer.fromFile(file);
    expect(read.values).toEqual(values);
    expect(read.config).toEqual({
      bottleneck: 4,
      bottleneckPattern: { 'b.out': 2 },
      withoutBias: [],
      nonLinearity: 'relu',
      targetModules: ['a.out', 'b.out', 'c.out'],
    });
  });

  it('name a missing tensor or one with a wrong shape', () => {
    const broken = (change: HostTensors) => () =>
      pfeiffer.fromFile({ ...file, tensors: { ...file.tensors, ...change } });
    const { 'a.out.adapter_up.bias': upBias, ...rest } = file.tensors;
    expect(upBias).toBeDefined();
    expect(() => pfeiffer.fromFile({ ...file, tensors: rest })).toThrow(/'a.out.adapter_up.bias' is missing/);
    expect(broken({ 'a.out.adapter_down.weight': tensorAt(values, 'a.out.upBias') })).toThrow(CheckpointError);
    expect(broken({ 'a.out.adapter_down.bias': tensorAt(values, 'a.out.up') })).toThrow(/expected a float32 vector/);
    expect(() => pfeiffer.fromFile({ ...file, tensors: {} })).toThrow(CheckpointError);
  });
});

/** Phi by its power series, exact in double precision for the small arguments here. */
function normalCdf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (x * x) / (2 * n + 1);
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}
