import { contextOf, forwardOf, layerOf, referenceBackend } from '@peftjs/conformance';
import { bayesLora } from '@peftjs/bayes-lora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(referenceBackend);

it("adds s (x A) B of the means, without noise, to the module's output", () => {
  const layer = layerOf(bayesLora, { r: 2, loraAlpha: 6 }, [2, 3]);
  const p = {
    loraA: tf.tensor2d([1, 2, 3, 4], [2, 2]),
    loraB: tf.tensor2d([1, 0, 2, 0, 1, 4], [2, 3]),
    logSigma2: tf.tensor1d([2, 2]),
  };
  const y = forwardOf(layer, p, tf.tensor2d([1, 1], [1, 2]), tf.tensor2d([10, 20, 30], [1, 3]));
  // x A = (4, 6), times B = (4, 6, 32), times 6 / 2
  expect([...y.dataSync()]).toEqual([22, 38, 126]);
  expect(layer.noise).toBeUndefined();
});

describe('the divergence', () => {
  const layer = layerOf(bayesLora, { r: 2, klScale: 1 }, [2, 3]);
  /** Returns the KL of A [2, 2] and B [2, 3] with all entries `mu`. */
  const divergence = (mu: tf.Tensor, logSigma2: tf.Tensor): tf.Scalar =>
    layer.loss?.({ loraA: tf.fill([2, 2], 1).mul(mu), loraB: tf.fill([2, 3], 1).mul(mu), logSigma2 }, contextOf()) ??
    expect.fail('no loss');

  it.each([
    [-4, 2.63421],
    [-2, 1.54053],
    [0, 0.43124],
    [2, 0.06842],
    [4, 0.00933],
  ])('of ln alpha = %i is %f per entry, summed over all entries', (logAlpha, expected) => {
    // ln mu^2 = -3 keeps ln sigma^2 within its clamps.
    const kl = divergence(tf.scalar(Math.exp(-1.5)), tf.fill([2], logAlpha - 3));
    expect(Math.abs((kl.dataSync()[0] as number) - 10 * expected)).toBeLessThan(1e-4 * 10);
  });

  it('uses the clamped ln sigma^2', () => {
    const at = (logSigma2: number): number =>
      divergence(tf.scalar(0.1), tf.fill([2], logSigma2)).dataSync()[0] as number;
    expect([at(50), at(-50)]).toEqual([at(2), at(-20)]);
  });

  it('falls as sigma grows, and has a finite slope at means of zero', () => {
    const [ofMean, ofLogSigma2] = tf.grads(divergence)([tf.scalar(0), tf.fill([2], -8)]);
    expect(ofMean?.dataSync()[0]).toBe(0);
    for (const slope of ofLogSigma2?.dataSync() ?? []) expect(slope < 0 && slope > -1).toBe(true);
  });
});

describe('a rank', () => {
  it('starts from its own means and one variance, which weight decay does not shrink', () => {
    const { loraA, loraB, logSigma2 } = layerOf(bayesLora, { r: 3 }, [16, 10]).params;
    const within = (bound: number, values: ArrayLike<number> = []): boolean =>
      Array.from(values).every((value) => Math.abs(value) <= bound && value !== 0);
    expect(within(1 / 4, loraA?.initial.data) && within(1e-3, loraB?.initial.data)).toBe(true);
    expect([...(logSigma2?.initial.data ?? [])]).toEqual([-8, -8, -8]);
    expect([loraA, loraB, logSigma2].map((spec) => spec?.decay)).toEqual([false, false, false]);
    expect(logSigma2?.rateFactor).toBe(0.1);
  });
});
