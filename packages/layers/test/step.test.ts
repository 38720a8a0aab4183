import { activeAdapter, hostTensor } from '@peftjs/core';
import {
  defineMethod,
  floats,
  hostZeros,
  parseOptions,
  targetEntries,
  tensorAt,
  type AdapterLayer,
  type CallableMethod,
  type Controller,
  type Site,
  type TargetConfig,
  type TrainPlan,
} from '@peftjs/core/method';
import { attachLayers, detachLayers } from '@peftjs/layers';
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(async () => {
  tf.env().set('PROD', true); // keeps TensorFlow.js's start-up banner off stderr
  await tf.setBackend('cpu');
});

/** The plans passed to the method below. */
const plans: TrainPlan[] = [];

/*
 * A method whose values can be computed by hand: y = base + shift, which starts at 0 and is pulled to 1.
 *
 *   loss       pull / 2 * (shift - 1)^2      pull: the controller's scalar, the number of the step
 *   gradient   doubled
 *   update     the mean of the proposed and the previous value; the state counts the steps
 *   controller sets the shift to 10 every third step
 */
const shifting: CallableMethod<TargetConfig> = defineMethod<TargetConfig>({
  name: 'shifting',
  capabilities: { mergeable: false, identityAtInit: true, adaptsRank: false, kinds: ['linear'] },
  parseConfig: (input) => parseOptions('shifting', targetEntries, input),
  adapt: (sites) => Object.fromEntries(sites.map((site) => [site.path, shiftingLayer(site)])),
  controller(layers, _config, plan): Controller {
    plans.push(plan);
    const names = Object.keys(layers).map((path) => `${path}.shift`);
    return {
      scalars: (step, { shifts = NaN }) => ({ pull: step, rate: shifts }),
      reads: (step) => (step % 3 === 0 ? names : []),
      afterStep: (_step, seen) => ({
        values: Object.fromEntries(names.map((name) => [name, filled(10, tensorAt(seen, name).shape)])),
      }),
      holdsBudget: () => true,
      snapshot: () => ({}),
      restore: () => undefined,
    };
  },
  peftTypes: [],
  toFile: () => ({ config: {}, tensors: {} }),
  fromFile: () => ({ config: {}, values: {} }),
});

function shiftingLayer(site: Site): AdapterLayer {
  return {
    site,
    params: { shift: { initial: hostZeros([site.outFeatures]), trainable: true, group: 'shifts', decay: false } },
    state: { steps: { initial: hostZeros([1]) }, rate: { initial: hostZeros([1]) } },
    forward: (_x, p, at) => tf.add(at.base(), tensorAt(p, 'shift')),
    loss: (p, ctx) => {
      const distance = tf.sum(tf.square(tf.sub(tensorAt(p, 'shift'), 1)));
      return tf.mul<tf.Scalar>(distance, tf.div(ctx.scalar('pull'), 2));
    },
    gradient: (_name, gradient) => tf.mul(gradient, 2),
    update: (proposed, { previous, ctx }) => ({
      shift: tf.div(tf.add(tensorAt(proposed, 'shift'), tensorAt(previous, 'shift')), 2),
      steps: tf.add(tensorAt(previous, 'steps'), 1),
      rate: tf.reshape(ctx.scalar('rate'), [1]),
    }),
    storedParameters: () => site.outFeatures,
  };
}

function filled(value: number, shape: readonly number[]) {
  return hostTensor(new Float32Array(shape.reduce((size, length) => size * length, 1)).fill(value), shape);
}

/** A model of one layer and one unit, whose own loss is always 0. */
function indifferentModel(rate: number): tf.Sequential {
  const model = tf.sequential({ layers: [tf.layers.dense({ name: 'unit', units: 1, inputShape: [2] })] });
  const nothing = (_labels: Tensor, outputs: Tensor) => tf.mul(tf.mean(outputs), 0);
  model.compile({ optimizer: tf.train.sgd(rate), loss: nothing });
  return model;
}

/** Computes the shift after some steps. */
function byHand(steps: number, rate: number): number {
  let shift = 0;
  for (let step = 1; step <= steps; step++) {
    const proposed = shift - rate * 2 * step * (shift - 1);
    shift = step % 3 === 0 ? 10 : (proposed + shift) / 2;
  }
  return shift;
}

describe('a step of fit', () => {
  const [x, y] = [() => tf.ones([4, 2]), () => tf.zeros([4, 1])];

  it.each([1, 2, 3, 5])(
    'runs loss term, gradient rule, optimizer, update rule and controller: %i steps',
    async (steps) => {
      const model = indifferentModel(0.05);
      const peft = attachLayers(model, shifting());
      const { history } = await model.fit(x(), y(), { epochs: steps, batchSize: 4 });
      const { values } = activeAdapter(peft);
      expect(floats(tensorAt(values, 'unit.shift'))[0]).toBeCloseTo(byHand(steps, 0.05), 5);
      expect(floats(tensorAt(values, 'unit.steps'))[0]).toBe(steps);
      expect(history.loss, "the model's own loss, without the term").toEqual(Array(steps).fill(0));
    },
  );

  it("uses a group's own learning rate and passes it to the controller", async () => {
    const model = indifferentModel(0.1);
    const peft = attachLayers(model, shifting(), { rateFactors: { shifts: 0.5 } });
    await model.fit(x(), y(), { epochs: 2, batchSize: 4 });
    expect(floats(tensorAt(activeAdapter(peft).values, 'unit.shift'))[0]).toBeCloseTo(byHand(2, 0.05), 5);
    expect(floats(tensorAt(activeAdapter(peft).values, 'unit.rate'))[0]).toBeCloseTo(0.05, 6);
  });

  it('follows a plan derived from the arguments of fit', async () => {
    const model = indifferentModel(0.1);
    attachLayers(model, shifting(), { plan: { finalSteps: 2 } });
    const ofSteps = async (args: tf.ModelFitArgs) => {
      await model.fit(tf.ones([10, 2]), tf.zeros([10, 1]), args);
      return plans.at(-1);
    };
    expect(await ofSteps({})).toEqual({ totalSteps: 1, warmupSteps: 0, finalSteps: 2 });
    expect(await ofSteps({ epochs: 20, batchSize: 4 })).toEqual({ totalSteps: 60, warmupSteps: 3, finalSteps: 2 });
    const split = { validationSplit: 0.2, epochs: 7, initialEpoch: 2, batchSize: 3 };
    expect(await ofSteps(split)).toEqual({ totalSteps: 15, warmupSteps: 0, finalSteps: 2 });
    const validationData: [Tensor, Tensor] = [tf.ones([2, 2]), tf.zeros([2, 1])];
    expect((await ofSteps({ validationSplit: 0.2, validationData, batchSize: 3 }))?.totalSteps).toBe(4);
  });

  it.each([true, false])('is the same in trainOnBatch, and leaves the optimizer: awaited %s', async (awaited) => {
    const model = indifferentModel(0.05);
    const peft = attachLayers(model, shifting(), { plan: { totalSteps: 5 } });
    const calls: Promise<unknown>[] = [];
    for (let step = 0; step < 5; step++) {
      calls.push(model.trainOnBatch(x(), y()));
      if (awaited) await calls[step];
    }
    await Promise.all(calls);
    expect(floats(tensorAt(activeAdapter(peft).values, 'unit.shift'))[0]).toBeCloseTo(byHand(5, 0.05), 5);
    detachLayers(model);
    expect(Object.keys(model.optimizer)).not.toContain('minimize');
    await expect(model.fit(x(), y(), { epochs: 1 })).resolves.toBeDefined();
  });

  it('leaves no traces on the model', async () => {
    const model = indifferentModel(0.1);
    const own = () => [model, model.layers[0] as object].map((each) => Object.getOwnPropertyNames(each).sort());
    await model.fit(x(), y(), { epochs: 1 });
    const before = own();
    attachLayers(model, shifting());
    expect(own()).not.toEqual(before);
    await model.fit(x(), y(), { epochs: 2 });
    detachLayers(model);
    expect(own()).toEqual(before);
  });
});
