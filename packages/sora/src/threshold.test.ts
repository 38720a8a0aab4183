import { referenceBackend } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { referenceThreshold, softThreshold } from './proximal.js';

beforeAll(referenceBackend);

type Operator = typeof softThreshold;
const apply = (operator: Operator, values: readonly number[], threshold: number): number[] =>
  tf.tidy(() => [...operator(tf.tensor1d([...values]), threshold).dataSync()]);

/** sign(x) max(|x| - t, 0) in float32 */
const closedForm = (x: number, t: number): number => Math.sign(x) * Math.max(Math.abs(x) - t, 0);

const float = fc.float({ min: -10, max: 10, noNaN: true });
const level = fc.float({ min: 0, max: 5, noNaN: true });
const grid = [0, 0.5, 1, 1.0001, 1.5, 1.999, 2, 2.5];
const signed = [...grid, ...grid.map((value) => -value)];

describe('softThreshold', () => {
  it.each([1, 0.25, 3e-4])('trap 1: is sign(x) max(|x| - %f, 0) on and around its corners', (xi) => {
    const values = signed.map((multiple) => Math.fround(multiple * xi));
    apply(softThreshold, values, xi).forEach((value, index) =>
      expect(Math.abs(value - closedForm(values[index] as number, Math.fround(xi)))).toBeLessThanOrEqual(1e-7),
    );
  });

  it('trap 1: shrinks 1.5 thresholds to 0.5; the released code shrinks them to 0', () => {
    expect(apply(softThreshold, [1.5, -1.5], 1)).toEqual([0.5, -0.5]);
    expect(apply(referenceThreshold, [1.5, -1.5], 1)).toEqual([0, 0]);
  });

  it('trap 1: is continuous, shrinks, and never increases distances', () => {
    fc.assert(
      fc.property(float, float, level, (a, b, t) => {
        const [ta, tb] = apply(softThreshold, [a, b], t) as [number, number];
        expect(Math.abs(ta)).toBeLessThanOrEqual(Math.abs(a));
        expect(Math.abs(ta - tb)).toBeLessThanOrEqual(Math.abs(a - b) + 1e-5);
      }),
    );
  });

  it('trap 1: adds up, T_a(T_b(x)) = T_{a+b}(x)', () => {
    fc.assert(
      fc.property(float, level, level, (x, a, b) => {
        const twice = apply(softThreshold, apply(softThreshold, [x], b), a);
        expect(Math.abs((twice[0] as number) - (apply(softThreshold, [x], a + b)[0] as number))).toBeLessThan(1e-5);
      }),
    );
  });

  it.each([softThreshold, referenceThreshold])('never gives a negative zero', (operator) => {
    for (const t of [0, 0.5]) {
      for (const value of apply(operator, [-0, 0, -0.1, -0.5, 0.3, -1e-30], t))
        expect(Object.is(value, -0)).toBe(false);
    }
  });

  it('accepts a threshold that is a tensor', () => {
    const values = tf.tidy(() => [...softThreshold(tf.tensor1d([2, -3]), tf.scalar(0.5)).dataSync()]);
    expect(values).toEqual([1.5, -2.5]);
  });

  it('trap 3: is the proximal operator: descent with it on 0.5 (g - a)^2 + lambda |g| ends at T_lambda(a)', () => {
    const descend = (a: number, lambda: number): number =>
      tf.tidy(() => {
        let gate: tf.Tensor = tf.tensor1d([-2]);
        const rate = 0.1;
        for (let step = 0; step < 300; step++) {
          const proposed = tf.sub(gate, tf.mul(rate, tf.sub(gate, a)));
          gate = softThreshold(proposed, rate * lambda);
        }
        return gate.dataSync()[0] as number;
      });
    expect(Math.abs(descend(1, 0.3) - 0.7)).toBeLessThan(1e-4);
    expect(descend(0.2, 0.3)).toBe(0);
  });
});

describe('referenceThreshold', () => {
  it('equals the released code: a dead zone up to 2 xi, except xi itself, which stays', () => {
    const sequential = (x: number, xi: number): number => {
      let p = x;
      if (x > xi) p = Math.fround(x - xi);
      if (x < -xi) p = Math.fround(x + xi);
      return Math.abs(p) < xi ? 0 : p;
    };
    const xi = 0.25; // exact in float32, so that ties are ties
    const values = signed.map((multiple) => Math.fround(multiple * xi));
    expect(apply(referenceThreshold, values, xi)).toEqual(values.map((value) => sequential(value, xi)));
    expect(apply(referenceThreshold, [xi, -xi, 2 * xi, 2.5 * xi], xi)).toEqual([xi, -xi, xi, 1.5 * xi]);
    fc.assert(
      fc.property(float, (x) => {
        expect(apply(referenceThreshold, [x], xi)[0]).toBe(sequential(x, xi) || 0);
      }),
    );
  });
});
