import { PeftError } from '@peftjs/core';
import {
  ConfigError,
  createRng,
  floats,
  hostZeros,
  tensorAt,
  type AdapterLayer,
  type HostTensors,
} from '@peftjs/core/method';
import { rankUnit } from '@peftjs/core/ranks';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, normalValues } from '@peftjs/core/linalg';
import { forwardOf, initialOf, layerOf, layersOf, referenceBackend, tensorsOf } from '@peftjs/conformance';
import { lora, type LoraConfig } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

/** Returns values with a nonzero B. */
const trainedOf = (layer: AdapterLayer): HostTensors => {
  const initial = initialOf(layer);
  return { ...initial, loraB: normalValues(createRng(3), tensorAt(initial, 'loraB').shape, 1) };
};

const outputOf = (layer: AdapterLayer, values: HostTensors, x: tf.Tensor2D, base: tf.Tensor2D): number[] =>
  tf.tidy(() => {
    return [...forwardOf(layer, tensorsOf(values), x, base).dataSync()];
  });

/** Returns the error that a call throws. */
const failureOf = (act: () => unknown): PeftError => {
  try {
    act();
  } catch (error) {
    if (error instanceof PeftError) return error;
  }
  return expect.fail('nothing was refused');
};

const spread = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0) / values.length);

beforeAll(referenceBackend);

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

  it('trap 24: draws A [in, r] within 1 / sqrt(in) for any r, and starts B [r, out] from zero', () => {
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

  it("draws A with standard deviation 1 / r for 'gaussian', and B too for false", () => {
    const gaussian = layerOf(lora, { r: 8, initLoraWeights: 'gaussian' }, [400, 4]).params.loraA?.initial.data ?? [];
    expect(spread(gaussian)).toBeGreaterThan(0.95 / 8);
    expect(spread(gaussian)).toBeLessThan(1.05 / 8);
    const random = layerOf(lora, { r: 4, initLoraWeights: false }, [4, 400]).params.loraB?.initial.data ?? [];
    expect(Math.max(...random)).toBeGreaterThan(0.45); // torch: uniform within 1 / sqrt(r)
    expect(Math.max(...random)).toBeLessThanOrEqual(0.5);
  });

  it('trap 30: scales by alpha / r, or by alpha / sqrt(r) as rsLoRA', () => {
    const scalingOf = (options: Partial<LoraConfig>): number | undefined => {
      const layer = layerOf(lora, options);
      return layer.toLora?.(initialOf(layer)).scaling;
    };
    expect(scalingOf({ r: 16, loraAlpha: 8 })).toBe(0.5);
    expect(scalingOf({ r: 16, loraAlpha: 8, useRslora: true })).toBe(2);
    expect(scalingOf({ rankPattern: { m: 4 }, alphaPattern: { m: 1 } })).toBe(0.25);
  });

  it('trap 30: keeps the size of its output as r grows, as rsLoRA', () => {
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
    expect(Math.abs(stored / budget - 1)).toBeLessThan(0.02);
  });

  it('counts tensors besides A and B, and both parts of a difference', () => {
    const [site] = sites.slice(-1);
    const unit = rankUnit(sites.slice(-1));
    const outputs = site?.outFeatures ?? NaN;
    const least = (options: Partial<LoraConfig>): number => {
      const { path, message } = failureOf(() => lora.fitBudget?.(sites.slice(-1), 1, lora.parseConfig(options)));
      expect(path).toBe('budget');
      return Number(/takes (\d+) parameters/.exec(message)?.[1]);
    };
    expect(least({})).toBe(unit);
    expect(least({ useDora: true })).toBe(unit + outputs);
    expect(least({ loraBias: true, bias: 'lora_only' })).toBe(unit + 2 * outputs);
    expect(least({ initLoraWeights: 'pissa', useDora: true })).toBe(2 * unit + outputs);
    expect(least({ initLoraWeights: 'lora_ga' })).toBe(2 * unit);
    expect(least({ initLoraWeights: 'orthogonal', r: 2 })).toBe(2 * unit); // an even rank
    const { r, rankPattern } =
      lora.fitBudget?.(sites, 7 * rankUnit(sites), lora.parseConfig({ initLoraWeights: 'orthogonal' })) ??
      expect.fail('no budget');
    expect([r, ...Object.values(rankPattern)].every((rank) => rank % 2 === 0)).toBe(true);
  });

  it("moves EVA's ranks by the parameters they store, and rejects trained biases of other modules", () => {
    const fitted = lora.fitBudget?.(sites, 4 * rankUnit(sites), lora.parseConfig({ initLoraWeights: 'eva' }));
    expect(fitted?.evaConfig).toMatchObject({ budgetUnit: 'parameters', rho: 2 });
    expect(failureOf(() => lora.fitBudget?.(sites, rankUnit(sites), lora.parseConfig({ bias: 'all' }))).path).toBe(
      'bias',
    );
  });

  it('adapts fewer modules if the lowest rank on all of them is too much, but at least one', () => {
    const fitted = (budget: number): LoraConfig =>
      lora.fitBudget?.(sites, budget, lora.parseConfig({ targetModules: 'all-linear' })) ?? expect.fail('no budget');
    expect(fitted(rankUnit(sites)).targetModules).toBe('all-linear');
    const { targetModules, r, rankPattern } = fitted(rankUnit(sites.slice(1)));
    expect([targetModules, r, rankPattern]).toEqual([sites.slice(1).map(({ path }) => path), 1, {}]);
    expect(() => fitted(1)).toThrow(ConfigError);
  });

  it('counts trained parameters if configured', () => {
    const ranksOf = (options: Partial<LoraConfig>, budget: number): number =>
      lora.fitBudget?.(sites, budget, lora.parseConfig(options), 'trained').r ?? expect.fail('no budget');
    const outputs = sites.reduce((sum, { outFeatures }) => sum + outFeatures, 0);
    expect(ranksOf({}, 4 * rankUnit(sites))).toBe(4);
    expect(ranksOf({ useDora: true }, 4 * rankUnit(sites) + outputs)).toBe(4);
    expect(ranksOf({ initLoraWeights: 'pissa' }, 4 * rankUnit(sites))).toBe(4); // it stores twice as much
    expect(ranksOf({ loraFa: true }, 4 * outputs)).toBe(4);
  });
});
