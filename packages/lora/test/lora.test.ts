import {
  ConfigError,
  createRng,
  floats,
  hostZeros,
  loraDelta,
  normalValues,
  rankUnit,
  tensorAt,
  type AdapterLayer,
  type HostTensors,
  linearSite,
} from '@peftjs/core';
import { forwardOf, initialOf, layerOf, layersOf, tensorsOf } from '@peftjs/core/testing';
import { lora, type LoraConfig } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';

/** Values with a B that is not zero. */
const trainedOf = (layer: AdapterLayer): HostTensors => {
  const initial = initialOf(layer);
  return { ...initial, loraB: normalValues(createRng(3), tensorAt(initial, 'loraB').shape, 1) };
};

const outputOf = (layer: AdapterLayer, values: HostTensors, x: tf.Tensor2D, base: tf.Tensor2D): number[] =>
  tf.tidy(() => {
    return [...forwardOf(layer, tensorsOf(values), x, base).dataSync()];
  });

const spread = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

describe('the layer', () => {
  it('is x W0 + b + s (x A) B', () => {
    const layer = layerOf(lora, { r: 2, loraAlpha: 3 });
    const values = trainedOf(layer);
    const x = tf.randomNormal<tf.Rank.R2>([4, 6], 0, 1, 'float32', 1);
    const base = tf.randomNormal<tf.Rank.R2>([4, 10], 0, 1, 'float32', 2);
    const delta = tf.tensor2d(loraDelta(layer.toLora?.(values) ?? expect.fail('toLora is missing')), [6, 10]);
    const expected = tf.add(base, tf.matMul(x, delta)).dataSync();
    outputOf(layer, values, x, base).forEach((value, index) => expect(value).toBeCloseTo(expected[index] as number, 5));
  });

  it('draws A within 1 / sqrt(in), whatever r is, and starts B from zero', () => {
    for (const r of [1, 16]) {
      const { loraA, loraB } = layerOf(lora, { r }, [100, 30]).params;
      expect(loraA?.initial.shape).toEqual([100, r]);
      expect(loraB?.initial.shape).toEqual([r, 30]);
      const largest = Math.max(...floats(tensorAt({ loraA }, 'loraA')?.initial ?? hostZeros([])).map(Math.abs));
      expect(largest).toBeLessThanOrEqual(0.1);
      expect(largest).toBeGreaterThan(0.09);
      expect([...(loraB?.initial.data ?? [1])].every((value) => value === 0)).toBe(true);
    }
  });

  it("draws A with deviation 1 / r for 'gaussian', and B too for false", () => {
    const gaussian = layerOf(lora, { r: 8, initLoraWeights: 'gaussian' }, [400, 4]).params.loraA?.initial.data ?? [];
    expect(spread(gaussian)).toBeGreaterThan(0.95 / 8);
    expect(spread(gaussian)).toBeLessThan(1.05 / 8);
    const random = layerOf(lora, { r: 4, initLoraWeights: false }, [4, 400]).params.loraB?.initial.data ?? [];
    expect(Math.max(...random)).toBeGreaterThan(0.45); // torch: uniform within 1 / sqrt(r)
    expect(Math.max(...random)).toBeLessThanOrEqual(0.5);
  });

  it('scales by alpha / r, or by alpha / sqrt(r) as rsLoRA', () => {
    const scalingOf = (options: Partial<LoraConfig>): number | undefined => {
      const layer = layerOf(lora, options);
      return layer.toLora?.(initialOf(layer)).scaling;
    };
    expect(scalingOf({ r: 16, loraAlpha: 8 })).toBe(0.5);
    expect(scalingOf({ r: 16, loraAlpha: 8, useRslora: true })).toBe(2);
    expect(scalingOf({ rankPattern: { m: 4 }, alphaPattern: { m: 1 } })).toBe(0.25);
  });

  it('keeps the size of its output as r grows, as rsLoRA', () => {
    const deltaSpread = (r: number, useRslora: boolean): number => {
      const layer = layerOf(lora, { r, useRslora }, [64, 64]);
      const rng = createRng(11);
      const values = { loraA: normalValues(rng, [64, r], 1), loraB: normalValues(rng, [r, 64], 1) };
      return spread(loraDelta(layer.toLora?.(values) ?? expect.fail('toLora is missing')));
    };
    const growth = (useRslora: boolean): number => deltaSpread(64, useRslora) / deltaSpread(4, useRslora);
    expect(Math.abs(growth(true) - 1)).toBeLessThan(0.2);
    expect(Math.abs(4 * growth(false) - 1)).toBeLessThan(0.2);
  });
});

describe('budgets', () => {
  const sites = [
    linearSite('q', 320, 960),
    linearSite('o', 320, 320),
    linearSite('up', 320, 1280),
    linearSite('down', 1280, 320),
  ];
  const storedOf = (options: Partial<LoraConfig>): number =>
    Object.values(layersOf(lora, sites, options)).reduce(
      (sum, layer) => sum + layer.storedParameters(initialOf(layer)),
      0,
    );

  it.each([1, 1.25, 4, 7.77])('stores %f ranks everywhere, within 2 %', (multiple) => {
    const budget = Math.floor(multiple * rankUnit(sites));
    const stored = storedOf(lora.fitBudget?.(sites, budget, lora.parseConfig({})) ?? {});
    expect(stored).toBeLessThanOrEqual(budget);
    expect(stored).toBeGreaterThan(0.98 * budget);
  });

  it('says what the least possible is', () => {
    expect(() => lora.fitBudget?.(sites, rankUnit(sites) - 1, lora.parseConfig({}))).toThrow(ConfigError);
  });
});

describe('files', () => {
  it('are what PEFT expects, and read back as the same change of every weight', () => {
    const config = lora.parseConfig({ r: 4, rankPattern: { up: 2 }, useRslora: true });
    const layers = layersOf(lora, [linearSite('up', 3, 5), linearSite('down', 5, 3)], config);
    const values = Object.fromEntries(
      Object.entries(layers).flatMap(([path, layer]) =>
        Object.entries(trainedOf(layer)).map(([name, value]) => [`${path}.${name}`, value] as const),
      ),
    );
    const file = lora.toFile({ config, layers, values }, { pruned: true });
    expect(Object.keys(file.tensors).sort()).toEqual([
      'down.lora_A.weight',
      'down.lora_B.weight',
      'up.lora_A.weight',
      'up.lora_B.weight',
    ]);
    expect(file.tensors['up.lora_A.weight']?.shape).toEqual([2, 3]);
    const read = lora.fromFile(file);
    expect(read.values).toEqual(values);
    const again = layersOf(lora, [linearSite('up', 3, 5), linearSite('down', 5, 3)], read.config);
    for (const [path, layer] of Object.entries(again)) {
      const own = trainedOf(layer);
      expect(layer.toLora?.(own).scaling).toBeCloseTo(layers[path]?.toLora?.(own).scaling ?? NaN, 10);
    }
  });
});
