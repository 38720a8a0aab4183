import { adamW } from '@peftjs/core';
import { createRng, floats, tensorAt } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, normalValues } from '@peftjs/core/linalg';
import {
  contextOf,
  controllerOf,
  forwardOf,
  initialOf,
  layerOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { trainedOf, updatedGates } from './harness.js';

beforeAll(referenceBackend);

const plan = { totalSteps: 100, warmupSteps: 6, finalSteps: 30 };
const thresholdOf = (options: Partial<SoraConfig>, learningRates: Record<string, number>): number =>
  tensorAt(controllerOf(sora, { m: layerOf(sora) }, options, plan).scalars(1, learningRates), 'threshold');

describe('the start', () => {
  it('has kaiming-uniform A, zero B and signed normal gates of their own group, without decay', () => {
    const { loraA, loraB, gate } = layerOf(sora, { r: 400 }, [100, 3]).params;
    expect(
      Math.max(...floats(tensorAt({ loraA }, 'loraA')?.initial ?? expect.fail('no A')).map(Math.abs)),
    ).toBeLessThanOrEqual(0.1);
    expect(loraB?.initial.data.every((value) => value === 0)).toBe(true);
    expect(gate).toMatchObject({ trainable: true, group: 'gate', decay: false });
    const gates = [...(gate?.initial.data ?? [])];
    const mean = gates.reduce((sum, value) => sum + value, 0) / 400;
    const std = Math.sqrt(gates.reduce((sum, value) => sum + value * value, 0) / 400);
    expect(Math.abs(mean)).toBeLessThan(0.15);
    expect(Math.abs(std - 1)).toBeLessThan(0.1);
    expect(gates.every((value) => value !== 0)).toBe(true);
    expect([...(layerOf(sora, { r: 3, gateInit: 'ones' }).params.gate?.initial.data ?? [])]).toEqual([1, 1, 1]);
  });

  it('trap 8: moves B but not the gates in the first step, because B is zero, so that no rank is pruned', () => {
    const layer = layerOf(sora, { r: 3 });
    const p = tensorsOf(initialOf(layer));
    const [x, base] = [tf.randomNormal([4, 6], 0, 1, 'float32', 1), tf.zeros([4, 10])];
    const names = ['loraA', 'gate', 'loraB'];
    const loss = (): tf.Scalar => tf.sum(tf.square(tf.sub(forwardOf(layer, p, x, base), 1)));
    const { grads } = tf.engine().gradients(
      loss,
      names.map((name) => tensorAt(p, name)),
    );
    const largest = grads.map((gradient) => Math.max(...gradient.dataSync().map(Math.abs)));
    expect(largest[0]).toBe(0);
    expect(largest[1]).toBe(0);
    for (let rank = 0; rank < 3; rank++) {
      const row = tf.slice(grads[2] as tf.Tensor, [rank, 0], [1, 10]).dataSync();
      expect(Math.max(...row.map(Math.abs))).toBeGreaterThan(0.01);
    }
  });
});

describe('the threshold', () => {
  it("trap 2: shrinks a gate without a gradient by eta * lambda, and by nothing at a rate of zero, in mode 'lr'", () => {
    const threshold = thresholdOf({ sparseLambda: 0.5 }, { default: 1, gate: 0.1 });
    expect(updatedGates(layerOf(sora, { r: 1 }), [1], threshold)[0]).toBeCloseTo(0.95, 7);
    expect(updatedGates(layerOf(sora, { r: 1 }), [1], thresholdOf({ sparseLambda: 0.5 }, { gate: 0 }))).toEqual([1]);
  });

  it("trap 2: is xi at every learning rate, in mode 'constant'", () => {
    expect(thresholdOf({ thresholdMode: 'constant' }, { gate: 0 })).toBe(3e-4);
    expect(thresholdOf({ thresholdMode: 'constant', sparseLambda: 0.2 }, { gate: 5 })).toBe(0.2);
  });

  it('falls back on the default group, and names a missing group', () => {
    expect(thresholdOf({ sparseLambda: 2 }, { default: 0.1 })).toBeCloseTo(0.2, 12);
    expect(() => thresholdOf({}, { head: 0.1 })).toThrow(/group 'gate'/);
  });

  it('trap 6: changes gates only, and makes exact zeros without a sign', () => {
    const layer = layerOf(sora, { r: 4 });
    const proposed = tensorsOf(trainedOf(layer, [0.2, -0.2, 0.9, -0.9]));
    const at = { previous: proposed, gradient: {}, ctx: contextOf({ threshold: 0.5 }) };
    expect(Object.keys(layer.update?.(proposed, at) ?? {})).toEqual(['gate']);
    const gates = updatedGates(layer, [0.2, -0.2, 0.9, -0.9], 0.5);
    expect(gates.slice(0, 2).every((value) => Object.is(value, 0))).toBe(true);
    expect(gates[2]).toBeCloseTo(0.4, 6);
    expect(gates[3]).toBeCloseTo(-0.4, 6);
  });

  it("trap 3: is the same for every gate, whatever Adam's per-element scaling", () => {
    const value = tf.tensor1d([1, 1]);
    const gradient = tf.tensor1d([1, 1e-3]);
    const { value: gate } = adamW().update({
      value,
      gradient,
      slots: { moment1: tf.zeros([2]), moment2: tf.tensor1d([1e-2, 1e-8]) },
      learningRate: tf.scalar(0),
      decay: false,
      scalars: { correction1: tf.scalar(0.1), correction2: tf.scalar(0.1) },
    });
    const previous = { gate: value, mask: tf.onesLike(value) };
    const ctx = contextOf({ threshold: 0.25 });
    const changed = layerOf(sora, { r: 2 }).update?.({ gate }, { previous, gradient: { gate: gradient }, ctx }) ?? {};
    expect([...tensorAt(changed, 'gate').dataSync()]).toEqual([0.75, 0.75]);
  });

  it("has the released code's dead zone as 'reference'", () => {
    expect(updatedGates(layerOf(sora, { r: 2, proximal: 'reference' }), [0.75, 1.5], 0.5)).toEqual([0, 1]);
    expect(updatedGates(layerOf(sora, { r: 2 }), [0.75, 1.5], 0.5)).toEqual([0.25, 1]);
  });

  it('keeps masked gates at zero, whatever the optimizer proposes', () => {
    const gates = updatedGates(layerOf(sora, { r: 3 }), [0.5, -0.5, -0.7], 0, [1, 0, 0]);
    expect(gates.map((value) => Object.is(value, -0))).toEqual([false, false, false]);
    expect(gates).toEqual([0.5, 0, 0]);
  });
});

describe('the L1 term of the released code', () => {
  it('trap 4: is off by default, so that nothing is shrunk twice', () => {
    expect(layerOf(sora).loss).toBeUndefined();
  });

  it('trap 5: is the mean over all gates of the adapter, and has no gradient at a pruned gate', () => {
    const layers = layersOf(sora, [linearSite('a', 4, 4), linearSite('b', 4, 4)], { r: 3, l1Weight: 12 });
    const layer = tensorAt(layers, 'a');
    const gate = tf.tensor1d([-2, 0, 1]);
    const loss = (g: tf.Tensor): tf.Scalar => layer.loss?.({ gate: g }, contextOf({}, 2)) ?? expect.fail('no loss');
    expect(loss(gate).dataSync()[0]).toBeCloseTo((12 / 6) * 3, 6);
    expect([...tf.grad(loss)(gate).dataSync()]).toEqual([-2, 0, 2]);
  });
});

describe('pruning', () => {
  const gates = { none: [0, 0, 0, 0], one: [0, 0, -0.7, 0], all: [0.3, -1, 2, 0.1] };
  const x = () => tf.randomNormal([5, 6], 0, 1, 'float32', 1);
  const base = () => tf.randomNormal([5, 10], 0, 1, 'float32', 2);

  it.each(Object.entries(gates))('trap 9: keeps the outputs, with %s of the gates live', (_, gate) => {
    const layer = layerOf(sora, { r: 4, loraAlpha: 16 });
    const values = trainedOf(layer, gate);
    const factors = layer.toLora?.(values) ?? expect.fail('toLora is missing');
    const live = gate.filter((value) => value !== 0).length;
    expect(factors.loraA.shape).toEqual([6, live]);
    expect(factors.loraB.shape).toEqual([live, 10]);
    expect(factors.scaling).toBe(16 / 4); // r_max, not the remaining rank
    expect(layer.rank?.(values)).toBe(live);
    const { loraA, loraB } = tensorsOf({ loraA: factors.loraA, loraB: factors.loraB }) as Record<string, tf.Tensor2D>;
    const delta = live === 0 ? tf.zeros([6, 10]) : tf.matMul(loraA as tf.Tensor, loraB as tf.Tensor);
    const pruned = tf.add(base(), tf.mul(tf.matMul(x(), delta), factors.scaling));
    const unpruned = forwardOf(layer, tensorsOf(values), x(), base());
    expect(relativeDistance(pruned.dataSync(), unpruned.dataSync())).toBeLessThan(1e-5);
  });

  it('trap 9: would be wrong by r_max / |I| if scaled by the remaining rank', () => {
    const layer = layerOf(sora, { r: 4, loraAlpha: 16 });
    const factors = layer.toLora?.(trainedOf(layer, gates.one)) ?? expect.fail('toLora is missing');
    const right = loraDelta(factors);
    const wrong = loraDelta({ ...factors, scaling: 16 / 1 });
    expect(relativeDistance(wrong, right)).toBeCloseTo(3, 5);
  });

  it('trap 10: merges to W0 + s A diag(g) B', () => {
    const layer = layerOf(sora, { r: 4 });
    const values = trainedOf(layer, gates.all);
    const weight = normalValues(createRng(9), [6, 10], 1);
    const delta = loraDelta(layer.toLora?.(values) ?? expect.fail('toLora is missing'));
    const merged = floats(weight).map((value, index) => value + (delta[index] as number));
    const y = tf.matMul(x(), tf.tensor(merged, [6, 10]));
    const frozen = tf.matMul(x(), tf.tensor(weight.data, [6, 10]));
    expect(relativeDistance(y.dataSync(), forwardOf(layer, tensorsOf(values), x(), frozen).dataSync())).toBeLessThan(
      1e-5,
    );
  });

  it('trap 11: counts in + out for each live gate, also in modules that are not square', () => {
    const layer = layerOf(sora, { r: 4 }, [8, 32]);
    expect(layer.storedParameters(trainedOf(layer, [1, 0, -0, 2]))).toBe(2 * 40);
  });
});
