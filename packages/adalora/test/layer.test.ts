import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import { hostTensor } from '@peftjs/core';
import { createRng, tensorAt, type Tensors } from '@peftjs/core/method';
import { loraDelta, normalValues } from '@peftjs/core/linalg';
import {
  contextOf,
  forwardOf,
  initialOf,
  layerOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';

await referenceBackend(); // before the first tensor: it would print a banner

const numbers = (tensor: tf.Tensor | undefined): number[] => [...(tensor ?? expect.fail('no tensor')).dataSync()];

describe('the layer', () => {
  it('starts with normal P and Q of standard deviation 0.02 and no change, because E is zero', () => {
    const values = initialOf(layerOf(adalora, { initR: 40, targetR: 8 }, [100, 50]));
    for (const name of ['loraA', 'loraB']) {
      const drawn = [...tensorAt(values, name).data];
      const std = Math.sqrt(drawn.reduce((sum, value) => sum + value * value, 0) / drawn.length);
      expect(std).toBeGreaterThan(0.019);
      expect(std).toBeLessThan(0.021);
    }
    expect(tensorAt(values, 'loraA').shape).toEqual([100, 40]);
    expect(tensorAt(values, 'loraB').shape).toEqual([40, 50]);
    expect([...tensorAt(values, 'loraE').data].every((value) => value === 0)).toBe(true);
  });

  it('trap 22: folds E into the factors, drops pruned triplets and keeps the scaling of the initial rank', () => {
    const layer = layerOf(adalora, { initR: 3, targetR: 2, loraAlpha: 6 });
    const values = {
      ...initialOf(layer),
      loraB: normalValues(createRng(3), [3, 10], 1),
      loraE: hostTensor(Float32Array.of(0.5, 0, -2), [3]),
    };
    const factors = layer.toLora?.(values) ?? expect.fail('toLora is missing');
    expect(factors.loraA.shape).toEqual([6, 2]);
    expect(factors.scaling).toBe(6 / (3 + 1e-5)); // as in both released implementations
    expect(layer.rank?.(values)).toBe(2);
    expect(layer.storedParameters(values)).toBe(2 * 16);
    const x = tf.randomNormal([4, 6], 0, 1, 'float32', 1);
    const base = tf.randomNormal([4, 10], 0, 1, 'float32', 2);
    const y = forwardOf(layer, tensorsOf(values), x, base);
    const folded = tf.add(base, tf.matMul(x, tf.tensor(loraDelta(factors), [6, 10])));
    expect(relativeDistance(folded.dataSync(), y.dataSync())).toBeLessThan(1e-5);
  });

  it('applies dropout to the input of A, if configured', () => {
    const dropped: [name: string, rate: number][] = [];
    const ctx = {
      ...contextOf(),
      dropout: (name: string, x: tf.Tensor, rate: number) => {
        dropped.push([name, rate]);
        return rate === 0 ? x : tf.zerosLike(x);
      },
    };
    const outputOf = (loraDropout: number): number[] => {
      const layer = layerOf(adalora, { initR: 2, targetR: 1, loraDropout });
      expect(layer.noise ?? []).toEqual(loraDropout > 0 ? ['loraDropout'] : []);
      const values = { ...initialOf(layer), loraE: hostTensor(Float32Array.of(1, 1), [2]) };
      return numbers(forwardOf(layer, tensorsOf(values), tf.ones([1, 6]), tf.zeros([1, 10]), ctx));
    };
    expect(outputOf(0.3).every((value) => value === 0)).toBe(true);
    expect(outputOf(0).some((value) => value !== 0)).toBe(true);
    expect(dropped).toEqual([
      ['m.loraDropout', 0.3],
      ['m.loraDropout', 0],
    ]);
  });
});

describe('importance', () => {
  const options = { initR: 2, targetR: 1, orthRegWeight: 0 };
  const previous = {
    loraA: tf.tensor2d([1, 2, 3, -4], [2, 2]), // [in, r]
    loraE: tf.tensor1d([2, -1]),
    loraB: tf.tensor2d([1, 0, -2, 1, 5, 1], [2, 3]), // [r, out]
  };
  const gradient = {
    loraA: tf.tensor2d([0.5, 1, -1, 0.25], [2, 2]),
    loraE: tf.tensor1d([0.25, 3]),
    loraB: tf.tensor2d([1, 9, 0.5, -2, 0.2, 0], [2, 3]),
  };
  const judging = { scoring: 1, frozen: 0 };
  const after = (of: Partial<AdaloraConfig>, state: Tensors, scalars = judging): Tensors => {
    const layer = layerOf(adalora, { ...options, ...of }, [2, 3]);
    const before = { ...tensorsOf(initialOf(layer)), ...previous, ...state };
    return (
      layer.update?.(
        { ...before, loraE: tf.tensor1d([9, -7]) },
        { previous: before, gradient, ctx: contextOf(scalars) },
      ) ?? {}
    );
  };
  // |w g|: A [[.5, 2], [3, 1]] with column means 1.75 and 1.5; E [.5, 3]; B [[1, 0, 1], [2, 1, 0]] with row means 2/3
  // and 1
  const raw = [0.5 + 1.75 + 2 / 3, 3 + 1.5 + 1];

  it('trap 18: is the size of w dL/dw with both from before the step, averaged over rows and columns', () => {
    const importance = numbers(after({ importance: 'sensitivity' }, {}).importance);
    raw.forEach((value, index) => expect(importance[index]).toBeCloseTo(value, 5));
  });

  it("uses the weight after the step, before any mask, with the 'released' allocator", () => {
    const options: Partial<AdaloraConfig> = { importance: 'sensitivity', allocator: 'released' };
    const importance = numbers(after(options, { mask: tf.tensor1d([0, 1]) }, { scoring: 1, frozen: 1 }).importance);
    // E moves from (2, -1) to (9, -7); A and B do not change.
    [9 * 0.25 + 1.75 + 2 / 3, 7 * 3 + 1.5 + 1].forEach((value, index) =>
      expect(importance[index]).toBeCloseTo(value, 5),
    );
  });

  it('trap 18: is Ibar Ubar when smoothed, with an uncertainty of the new Ibar, at first .15 I times .15 * .85 I', () => {
    const scores = after({}, {});
    const s = (i: number): number => 0.15 * i * (0.15 * 0.85 * i);
    const expected = [
      s(0.5) + (s(0.5) + s(3)) / 2 + (s(1) + s(0) + s(1)) / 3,
      s(3) + (s(2) + s(1)) / 2 + (s(2) + s(1) + s(0)) / 3,
    ];
    numbers(scores.importance).forEach((value, index) => expect(value).toBeCloseTo(expected[index] as number, 6));
    expect(numbers(scores['smoothedSensitivity.loraE'])[1]).toBeCloseTo(0.15 * 3, 6);
    expect(numbers(scores['uncertainty.loraE'])[1]).toBeCloseTo(0.15 * 0.85 * 3, 6);
  });

  it('continues from its averages', () => {
    const state = { 'smoothedSensitivity.loraE': tf.tensor1d([1, 1]), 'uncertainty.loraE': tf.tensor1d([0.5, 0.5]) };
    const scores = after({ beta1: 0.5, beta2: 0.75 }, state);
    expect(numbers(scores['smoothedSensitivity.loraE'])).toEqual([0.75, 2]);
    expect(numbers(scores['uncertainty.loraE'])).toEqual([0.75 * 0.5 + 0.25 * 0.25, 0.75 * 0.5 + 0.25 * 1]);
  });

  it("is |E| with importance 'magnitude', which needs no averages", () => {
    expect(numbers(after({ importance: 'magnitude' }, {}).importance)).toEqual([9, 7]);
    expect(Object.keys(layerOf(adalora, { importance: 'magnitude' }).state ?? {})).toEqual(['importance', 'mask']);
  });

  it.each(['smoothed-sensitivity', 'sensitivity', 'magnitude'] as const)(
    'does not change in the final phase, when the mask is applied at every step: %s',
    (importance) => {
      const state: Tensors = { importance: tf.tensor1d([3, 4]), mask: tf.tensor1d([0, 1]) };
      if (importance === 'smoothed-sensitivity') state['uncertainty.loraE'] = tf.tensor1d([0.1, 0.2]);
      const scores = after({ importance }, state, { scoring: 0, frozen: 1 });
      expect(numbers(scores.importance)).toEqual([3, 4]);
      expect(numbers(scores.loraE)).toEqual([0, -7]);
      const uncertainty = scores['uncertainty.loraE'];
      if (uncertainty) expect(numbers(uncertainty)).toEqual([...Float32Array.of(0.1, 0.2)]);
    },
  );

  it('lets masked triplets regrow between two masks', () => {
    expect(numbers(after({}, { mask: tf.tensor1d([0, 1]) }).loraE)).toEqual([9, -7]);
  });
});

describe('the orthogonality term', () => {
  const orthonormal = (): Tensors => ({
    loraA: tf.tensor2d([1, 0, 0, 1, 0, 0], [3, 2]),
    loraB: tf.tensor2d([0, 0, 1, 0, 1, 0], [2, 3]),
  });
  const lossOf = (options: Partial<AdaloraConfig>, layers = 1) => {
    const loss = layerOf(adalora, { initR: 2, targetR: 1, ...options }, [3, 3]).loss ?? expect.fail('there is no term');
    return (p: Tensors): tf.Scalar => loss(p, contextOf({}, layers));
  };

  it('trap 19: is gamma times the sum of squared norms, or times the mean of norms as in the released code', () => {
    const p = { loraA: tf.tensor2d([2, 0, 0, 0, 0, 0], [3, 2]), loraB: orthonormal().loraB as tf.Tensor };
    // A^T A - I = diag(3, -1); B B^T - I = 0
    expect(numbers(lossOf({ orthRegWeight: 0.1 })(p))[0]).toBeCloseTo(0.1 * 10, 5);
    const mean = lossOf({ orthRegWeight: 0.1, orthRegularizer: 'unsquared-mean' }, 5)(p);
    expect(numbers(mean)[0]).toBeCloseTo((0.1 * Math.sqrt(10)) / 10, 5);
  });

  it.each(['squared-sum', 'unsquared-mean'] as const)(
    'trap 19: has a finite gradient at orthonormal factors, as %s',
    (orthRegularizer) => {
      const loss = lossOf({ orthRegularizer });
      const { loraA, loraB } = orthonormal() as { loraA: tf.Tensor; loraB: tf.Tensor };
      for (const gradient of tf.grads((a: tf.Tensor, b: tf.Tensor) => loss({ loraA: a, loraB: b }))([loraA, loraB])) {
        expect(numbers(gradient).every((value) => value === 0)).toBe(true);
      }
    },
  );

  it.each(['squared-sum', 'unsquared-mean'] as const)(
    'trap 19: falls at every step of descent on it alone, as %s',
    (orthRegularizer) => {
      const loss = lossOf({ orthRegularizer, orthRegWeight: 1 });
      let [a, b]: tf.Tensor[] = [
        tf.randomNormal([3, 2], 0, 0.02, 'float32', 1),
        tf.randomNormal([2, 3], 0, 0.02, 'float32', 2),
      ];
      const values: number[] = [];
      for (let step = 0; step < 50; step++) {
        values.push(numbers(loss({ loraA: a as tf.Tensor, loraB: b as tf.Tensor }))[0] as number);
        const [da, db] = tf.grads((x: tf.Tensor, y: tf.Tensor) => loss({ loraA: x, loraB: y }))([
          a as tf.Tensor,
          b as tf.Tensor,
        ]);
        a = tf.sub(a as tf.Tensor, tf.mul(0.02, da as tf.Tensor));
        b = tf.sub(b as tf.Tensor, tf.mul(0.02, db as tf.Tensor));
      }
      values.slice(1).forEach((value, index) => expect(value).toBeLessThan(values[index] as number));
    },
  );

  it('is absent with a weight of zero', () => {
    expect(layerOf(adalora, { orthRegWeight: 0 }).loss).toBeUndefined();
    expect(adalora.parseConfig({}).orthRegWeight).toBe(0.5);
  });
});
