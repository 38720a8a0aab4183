import { hostTensor } from '@peftjs/core';
import { ConfigError, floats, tensorAt, type HostTensor } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, truncatedSvd } from '@peftjs/core/linalg';
import { contextOf, initialOf, referenceBackend, relativeDistance, tensorsOf } from '@peftjs/conformance';
import type { LoraConfig, LoraGaConfig, LoraOptions } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { contextAt, drawn, layersOn, matrix, numbers, onModule, outputOn, type OnModule } from './harness.js';

await referenceBackend(); // before the first tensor: it would print a banner

const gradient = drawn(9, [6, 10]);
const partly: Readonly<Record<string, Partial<LoraConfig>>> = {
  pissa: { r: 2, initLoraWeights: 'pissa' },
  'pissa with an alpha': { r: 3, loraAlpha: 12, initLoraWeights: 'pissa_niter_16' },
  olora: { r: 2, initLoraWeights: 'olora' },
  'olora as rsLoRA': { r: 3, loraAlpha: 2, useRslora: true, initLoraWeights: 'olora' },
  lora_ga: { r: 2, initLoraWeights: 'lora_ga' },
  'lora_ga with dropout': { r: 2, initLoraWeights: 'lora_ga', loraDropout: 0.5 },
};

/** Returns s A B of a layer's initial factors, as a matrix. */
function startOf({ layer }: OnModule): { loraA: tf.Tensor2D; loraB: tf.Tensor2D; product: tf.Tensor } {
  const { loraA, loraB } = layer.params;
  const factors = {
    loraA: loraA?.initial ?? expect.fail('no A'),
    loraB: loraB?.initial ?? expect.fail('no B'),
    scaling: (layer as unknown as { scaling: number }).scaling,
  };
  const shape: [number, number] = [factors.loraA.shape[0] as number, factors.loraB.shape[1] as number];
  return {
    loraA: matrix(factors.loraA),
    loraB: matrix(factors.loraB),
    product: tf.tensor2d(loraDelta(factors), shape),
  };
}

const largestSingularValue = (tensor: tf.Tensor): number =>
  truncatedSvd(hostTensor(Float32Array.from(numbers(tensor)), tensor.shape), 1).s[0] as number;

describe('trap 26: A and B from a part of the weight', () => {
  it.each(Object.entries(partly))('do not change the output: %s', (_, options) => {
    const on = onModule(options, { calibrated: gradient });
    const x = matrix(drawn(4, [5, 6]));
    const y = numbers(outputOn(on, tensorsOf(initialOf(on.layer)), x));
    const bare = tf.add(tf.matMul(x, matrix(on.frozen.weight)), on.frozen.bias?.data ?? []);
    expect(relativeDistance(y, numbers(bare))).toBeLessThan(1e-4);
    expect(Math.max(...numbers(startOf(on).product).map(Math.abs))).toBeGreaterThan(0.1); // so a part was subtracted
  });

  it.each(['pissa', 'olora'] as const)('leave nothing of the weight at full rank: %s', (initLoraWeights) => {
    const { layer } = onModule({ r: 6, loraAlpha: 6, initLoraWeights });
    expect(Math.max(...floats(layer.frozenWeight ?? expect.fail('no residual')).map(Math.abs))).toBeLessThan(1e-5);
  });

  it('change the weight by their difference from their initial values', () => {
    for (const options of Object.values(partly)) {
      const { layer } = onModule(options, { calibrated: gradient });
      const toLora = layer.toLora ?? expect.fail('toLora is missing');
      const values = initialOf(layer);
      const { loraA, loraB, scaling } = toLora(values);
      expect(loraB.shape[0]).toBe(2 * (options.r ?? 0));
      expect(Math.max(...loraDelta({ loraA, loraB, scaling }).map(Math.abs))).toBeLessThan(1e-5);
      const doubled = {
        ...values,
        loraB: hostTensor(
          floats(tensorAt(values, 'loraB')).map((value) => 2 * value),
          [options.r as number, 10],
        ),
      };
      expect(
        relativeDistance(loraDelta(toLora(doubled)), numbers(startOf({ layer } as OnModule).product)),
      ).toBeLessThan(1e-4);
      expect(layer.storedParameters(values)).toBe(2 * (options.r ?? 0) * 16);
    }
  });

  it('reject more directions than the weight has', () => {
    expect(() => onModule({ r: 7, initLoraWeights: 'pissa' })).toThrow(ConfigError);
    expect(() => onModule({ r: 4, initLoraWeights: 'lora_ga' }, { calibrated: gradient })).toThrow(
      expect.objectContaining({
        path: 'r',
        message: expect.stringMatching(/needs 8 directions of 'm', which has 6/) as string,
      }),
    );
  });
});

describe('PiSSA', () => {
  it('takes the best approximation of rank r: the rest has the remaining singular values', () => {
    const { layer, frozen } = onModule({ r: 2, loraAlpha: 6, initLoraWeights: 'pissa' });
    const singular = truncatedSvd(frozen.weight, 6).s;
    const left = matrix(layer.frozenWeight ?? expect.fail('no residual'));
    expect(largestSingularValue(left)).toBeCloseTo(singular[2] as number, 4);
    expect(largestSingularValue(startOf({ layer, frozen }).product)).toBeCloseTo(singular[0] as number, 4);
  });

  it('splits the singular values between A and B and divides both by the scaling', () => {
    const on = onModule({ r: 2, loraAlpha: 6, initLoraWeights: 'pissa' });
    const { loraA, loraB } = startOf(on);
    const singular = truncatedSvd(on.frozen.weight, 2).s;
    const expected = [singular[0] as number, 0, 0, singular[1] as number].map((value) => value / 3);
    for (const gram of [tf.matMul(loraA, loraA, true, false), tf.matMul(loraB, loraB, false, true)]) {
      numbers(gram).forEach((value, index) => expect(value).toBeCloseTo(expected[index] as number, 4));
    }
  });
});

describe('OLoRA', () => {
  it("takes Q and R of torch's weight [out, in]: B is orthonormal, A triangular", () => {
    const { loraA, loraB } = startOf(onModule({ r: 3, initLoraWeights: 'olora' }));
    const gram = numbers(tf.matMul(loraB, loraB, false, true)); // [r, r]
    gram.forEach((value, index) => expect(value).toBeCloseTo(index % 4 === 0 ? 1 : 0, 5));
    numbers(loraA).forEach((value, index) => {
      const [input, rank] = [Math.floor(index / 3), index % 3];
      if (input < rank) expect(value).toBe(0); // R [r, in] is upper triangular, A its transpose
    });
  });

  it("takes them of a Conv1D's weight as it is stored, [in, out]: A is orthonormal, B triangular, so that the first output is the original one", () => {
    const site = { ...linearSite('m', 6, 10), fanInFanOut: true };
    const on = onModule({ r: 3, initLoraWeights: 'olora' }, { site });
    const { loraA, loraB, product } = startOf(on);
    const gram = numbers(tf.matMul(loraA, loraA, true, false)); // [r, r]
    gram.forEach((value, index) => expect(value).toBeCloseTo(index % 4 === 0 ? 1 : 0, 5));
    numbers(loraB).forEach((value, index) => {
      const [rank, output] = [Math.floor(index / 10), index % 10];
      if (output < rank) expect(value).toBe(0); // R [r, out] is upper triangular
    });
    const whole = tf.add(matrix(on.layer.frozenWeight ?? expect.fail('no residual')), product);
    expect(relativeDistance(numbers(whole), floats(on.frozen.weight))).toBeLessThan(1e-6);
  });
});

describe('LoRA-GA', () => {
  const options = (config: Partial<LoraGaConfig>): Partial<LoraConfig> => ({
    r: 2,
    loraAlpha: 6,
    initLoraWeights: 'lora_ga',
    loraGaConfig: { direction: 'ArB2r', scale: 'unit', stableGamma: 16, ...config },
  });
  const start = (config: Partial<LoraGaConfig>) => startOf(onModule(options(config), { calibrated: gradient }));
  const { s: singular } = truncatedSvd(gradient, 4);
  const lengths = (rows: tf.Tensor): number[] => numbers(tf.sqrt(tf.sum(tf.square(rows), 1)));

  it.each([
    ['ArB2r', [0, 1], [2, 3]],
    ['A2rBr', [2, 3], [0, 1]],
    ['ArBr', [1, 3], [0, 2]],
  ] as const)(
    "takes the gradient's singular vectors for direction %s, and scales B by its singular values",
    (direction, a, b) => {
      const { loraA, loraB } = start({ direction });
      const read = tf.matMul(loraA, matrix(gradient), true, false); // A^T G [r, out]: S_i V_i^T
      lengths(read).forEach((length, index) => expect(length).toBeCloseTo(singular[a[index] as number] as number, 4));
      lengths(loraB).forEach((length, index) => expect(length).toBeCloseTo(singular[b[index] as number] as number, 4));
      const back = tf.matMul(loraB, matrix(gradient), false, true); // B G^T [r, in]: S_j^2 U_j^T
      lengths(back).forEach((length, index) =>
        expect(length).toBeCloseTo((singular[b[index] as number] as number) ** 2, 3),
      );
      const gram = numbers(tf.matMul(loraA, loraA, true, false)); // [r, r]
      gram.forEach((value, index) => expect(value).toBeCloseTo(index % 3 === 0 ? 1 : 0, 5));
    },
  );

  it('takes the same vectors for both if they are drawn at random', () => {
    const { loraA, loraB } = start({ direction: 'random' });
    const product = numbers(tf.matMul(tf.matMul(loraA, matrix(gradient), true, false), loraB, false, true)); // [r, r]
    const [first = 0, second = 0] = lengths(loraB);
    [first ** 2, 0, 0, second ** 2].forEach((value, index) => expect(product[index]).toBeCloseTo(value, 3));
  });

  it('scales them by each scale option', () => {
    const unit = start({});
    const factorOf = (config: Partial<LoraGaConfig>): [number, number] => {
      const { loraA, loraB } = start(config);
      const ratio = (scaled: tf.Tensor, of: tf.Tensor): number =>
        (lengths(scaled)[0] as number) / (lengths(of)[0] as number);
      return [ratio(loraA, unit.loraA), ratio(loraB, unit.loraB)];
    };
    const largest = truncatedSvd(onModule().frozen.weight, 1).s[0] as number;
    const cases: [Partial<LoraGaConfig>, number, number][] = [
      [{ scale: 'stable' }, 1, 10 ** 0.25 / 4],
      [{ scale: 'stable', stableGamma: 64 }, 1, 10 ** 0.25 / 8],
      [{ scale: 'gd_scale' }, 1 / 3, 1 / 3],
      [{ scale: 'weight_svd' }, 1, largest / (singular[2] as number)],
    ];
    for (const [config, a, b] of cases) {
      const [actualA, actualB] = factorOf(config);
      expect(actualA).toBeCloseTo(a, 4);
      expect(actualB).toBeCloseTo(b, 4);
    }
  });

  it('needs the gradient', () => {
    expect(() => onModule(options({}))).toThrow();
  });

  it('subtracts A0 B0 from the frozen module, with dropout only on the trained part', () => {
    const on = onModule({ ...options({}), loraDropout: 0.5 }, { calibrated: gradient });
    const x = matrix(drawn(4, [5, 6]));
    const p = tensorsOf(initialOf(on.layer));
    const ctx = { ...contextOf(), dropout: (_: string, of: tf.Tensor) => tf.zerosLike(of) };
    const left = tf.sub(contextAt(on, x).base(), tf.matMul(x, startOf(on).product));
    expect(relativeDistance(numbers(outputOn(on, p, x, ctx)), numbers(left))).toBeLessThan(1e-5);
  });
});

describe('the orthogonal start', () => {
  it('has nonzero A and B whose product is zero', () => {
    const { loraA, loraB, product } = startOf(onModule({ r: 4, initLoraWeights: 'orthogonal' }));
    for (const factor of [loraA, loraB]) expect(Math.min(...numbers(tf.abs(factor)))).toBeGreaterThan(0);
    expect(Math.max(...numbers(tf.abs(product)))).toBeLessThan(1e-7);
  });

  it('rejects an odd rank of a module', () => {
    expect(() => onModule({ r: 4, rankPattern: { m: 3 }, initLoraWeights: 'orthogonal' })).toThrow(
      expect.objectContaining({ path: 'rankPattern' }),
    );
  });
});

describe('EVA', () => {
  const diagonal = (...values: number[]): HostTensor =>
    hostTensor(
      Float32Array.from({ length: values.length ** 2 }, (_, index) =>
        index % (values.length + 1) === 0 ? (values[index % values.length] as number) : 0,
      ),
      [values.length, values.length],
    );

  /** Returns the layers of modules with these second moments, by path. */
  const layersWith = (moments: Readonly<Record<string, HostTensor>>, config: LoraOptions) => {
    const sites = Object.entries(moments).map(([path, { shape }]) => linearSite(path, shape[0] as number, 4));
    const frozen = Object.fromEntries(sites.map((site) => [site.path, { weight: drawn(1, [site.inFeatures, 4]) }]));
    return layersOn(sites, frozen, { initLoraWeights: 'eva', ...config }, moments);
  };
  const rankOf = (layers: ReturnType<typeof layersWith>, path: string): number | undefined =>
    layers[path]?.rank?.(initialOf(layers[path]));

  it('moves ranks to where they explain most, and alpha with them', () => {
    // The shares are 0.8, 0.1, 0.1 and 0.4, 0.3, 0.3; four ranks are distributed.
    const moments = { few: diagonal(1, 8, 1), many: diagonal(3, 3, 4) };
    const layers = layersWith(moments, { r: 2, loraAlpha: 6 });
    expect([rankOf(layers, 'few'), rankOf(layers, 'many')]).toEqual([1, 3]);
    const scalings = Object.values(layers).map((layer) => layer.toLora?.(initialOf(layer)).scaling);
    expect(scalings).toEqual([3, 3]);
    const still = layersWith(moments, {
      r: 2,
      loraAlpha: 6,
      evaConfig: { rho: 2, adjustScalingFactors: false, budgetUnit: 'ranks' },
    });
    expect(Object.values(still).map((layer) => layer.toLora?.(initialOf(layer)).scaling)).toEqual([6, 2]);
    const { loraA, loraB } = layers.few?.params ?? {};
    expect(floats(loraA?.initial ?? expect.fail('no A')).map(Math.abs)).toEqual(Float32Array.of(0, 1, 0));
    expect(floats(loraB?.initial ?? expect.fail('no B'))).toEqual(new Float32Array(4));
  });

  it('gives a module at most rho times its rank, and exactly its rank with rho = 1', () => {
    const moments = { sharp: diagonal(5, 4, 3, 2, 1), even: diagonal(...new Array<number>(20).fill(1)) };
    const ranks = (rho: number): (number | undefined)[] => {
      const layers = layersWith(moments, { r: 2, evaConfig: { rho } });
      return [rankOf(layers, 'sharp'), rankOf(layers, 'even')];
    };
    expect(ranks(1)).toEqual([2, 2]);
    expect(ranks(1.5)).toEqual([3, 1]);
  });

  it('gives no rank to a module that explains too little', () => {
    const layers = layersWith({ sharp: diagonal(1, 1), even: diagonal(...new Array<number>(20).fill(1)) }, { r: 1 });
    expect(Object.keys(layers)).toEqual(['sharp']);
    expect(rankOf(layers, 'sharp')).toBe(2);
  });

  it('keeps the stored parameters rather than the number of ranks, if configured', () => {
    const moments = { wide: diagonal(8, ...new Array<number>(15).fill(0.1)), narrow: diagonal(6, 3, 1) };
    const layers = layersWith(moments, {
      r: 1,
      evaConfig: { rho: 3, adjustScalingFactors: true, budgetUnit: 'parameters' },
    });
    expect([rankOf(layers, 'wide'), rankOf(layers, 'narrow')]).toEqual([1, 1]); // a rank stores 20, or 7: 27 at most
    const byRanks = layersWith({ ...moments, wide: diagonal(...new Array<number>(16).fill(1)) }, { r: 1 });
    expect(rankOf(byRanks, 'narrow')).toBe(2);
  });

  it("explains more of a module's input than any other directions", () => {
    const x = drawn(11, [40, 6]);
    const skewed = tf.mul(matrix(x), tf.tensor1d([3, 1, 0.5, 2, 0.1, 1]));
    const moment = tf.div(tf.matMul(skewed, skewed, true, false), 40);
    const at = { m: hostTensor(Float32Array.from(numbers(moment)), [6, 6]) };
    const layers = layersWith(at, { r: 2, evaConfig: { rho: 1, adjustScalingFactors: true, budgetUnit: 'ranks' } });
    const explained = (directions: tf.Tensor): number =>
      numbers(tf.sum(tf.mul(directions, tf.matMul(moment, directions))))[0] as number;
    const leading = explained(matrix(layers.m?.params.loraA?.initial ?? expect.fail('no A')));
    const { s } = truncatedSvd(at.m, 2);
    expect(leading).toBeCloseTo((s[0] as number) + (s[1] as number), 3);
    for (const seed of [1, 2, 3]) {
      const other = truncatedSvd(drawn(seed, [6, 6]), 2).u; // orthonormal
      expect(explained(matrix(other))).toBeLessThan(leading);
    }
  });
});
