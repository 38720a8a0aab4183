import { attach, countParameters, hostTensor, train } from '@peftjs/core';
import { tensorAt, type AdapterLayers, type HostTensors, type Site, type TrainPlan } from '@peftjs/core/method';
import { allocatedCost, allocatedRanks } from '@peftjs/core/ranks';
import { linearSite, withResized } from '@peftjs/core/model';
import { loraDelta } from '@peftjs/core/linalg';

import {
  forwardOf,
  initialOf,
  layersOf,
  referenceExecutor,
  resumedAroundResize,
  relativeDistance,
  tensorsOf,
  toyModel,
  toyTrainingData,
} from '@peftjs/conformance';
import { bayesLora, type BayesLoraConfig } from '@peftjs/bayes-lora';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const sites = ['a', 'b', 'c'].map((path) => linearSite(path, 4, 6));
const plan: TrainPlan = { totalSteps: 120, warmupSteps: 7, finalSteps: 36 };

function controllerOf(options: Partial<BayesLoraConfig>, of: readonly Site[] = sites, at = plan) {
  const config = bayesLora.parseConfig({ r: 3, ...options });
  const layers = layersOf(bayesLora, of, config);
  return { layers, controller: bayesLora.controller?.(layers, config, at) ?? expect.fail('no controller') };
}

function valuesOf(layers: AdapterLayers, logAlphas: Readonly<Record<string, readonly number[]>>): HostTensors {
  const entries = Object.entries(layers).flatMap(([path, layer]) => {
    const wanted = logAlphas[path] ?? [];
    const { loraA, loraB } = initialOf(layer);
    const ones = (shape: readonly number[] = []) =>
      hostTensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);
    return [
      [`${path}.loraA`, ones(loraA?.shape)] as const,
      [`${path}.loraB`, ones(loraB?.shape)] as const,
      [`${path}.logSigma2`, hostTensor(Float32Array.from(wanted), [wanted.length])] as const,
    ];
  });
  return Object.fromEntries(entries);
}

/** Returns what remains after a step of modules whose ranks have these log alphas. */
function pruned(
  logAlphas: Readonly<Record<string, readonly number[]>>,
  options: Partial<BayesLoraConfig> = {},
  { step = 24, of = sites }: { readonly step?: number; readonly of?: readonly Site[] } = {},
) {
  const { layers, controller } = controllerOf(options, of);
  const values = valuesOf(layers, logAlphas);
  expect(controller.reads(step)).toEqual(Object.keys(values));
  const { resized = {} } = controller.afterStep(step, values) ?? {};
  return { values, resized, layers: withResized(layers, resized), controller };
}

function ranksOf(layers: AdapterLayers): number[] {
  return Object.values(layers).map(allocatedRanks);
}

describe('ranks are pruned', () => {
  const stepsOf = (options: Partial<BayesLoraConfig>, at: TrainPlan): number[] => {
    const { controller } = controllerOf(options, sites, at);
    return Array.from({ length: at.totalSteps }, (_, index) => index + 1).filter(
      (step) => controller.reads(step).length > 0,
    );
  };

  it("after every 2,000 of the release's 9,999 steps, and after the same shares of 120", () => {
    const released = { totalSteps: 9999, warmupSteps: 599, finalSteps: 1999 };
    expect(stepsOf({}, released)).toEqual([2000, 4000, 6000, 8000]);
    expect(stepsOf({}, plan)).toEqual([24, 48, 72, 84]);
    expect(stepsOf({ pruneEvents: 2 }, plan)).toEqual([40, 80]);
  });

  it('neither in the warm-up nor in the final phase; with a budget at the last step before the final phase', () => {
    expect(stepsOf({}, { ...plan, warmupSteps: 48, finalSteps: 50 })).toEqual([48, 70]);
    expect(stepsOf({ pruneEvents: 2, budget: 60 }, plan)).toEqual([40, 80, 84]);
    expect(stepsOf({ pruneEvents: 0, budget: 60 }, plan)).toEqual([84]);
  });
});

describe('a rank', () => {
  const logAlphas = { a: [2.9, 3.1, 8], b: [-5, -4, 2], c: [3.1, 4.1, 5] };

  it('is pruned if its log alpha reaches the threshold; a module may lose all', () => {
    expect(ranksOf(pruned(logAlphas).layers)).toEqual([1, 3, 0]);
    expect(ranksOf(pruned(logAlphas, { logAlphaThreshold: 4 }).layers)).toEqual([2, 3, 1]);
  });

  it('leaves the scaling and the moments of the others unchanged', () => {
    const { layers, resized } = pruned({ a: [9, 0, 0], b: [0, 0, 0], c: [0, 0, 0] });
    const { layer, carry } = tensorAt(resized, 'a');
    expect(Object.keys(resized)).toEqual(['a']);
    expect(tensorAt(layers, 'a').toLora?.(initialOf(layer)).scaling).toBe(16 / 3);
    const moments = hostTensor(Float32Array.of(0.1, 0.2, 0.3), [3]);
    expect([...carry('logSigma2', moments, 'squaredGradient').data]).toEqual([...moments.data.subarray(1)]);
    const ofA = hostTensor(
      Float32Array.from({ length: 12 }, (_, index) => index / 7),
      [4, 3],
    );
    expect([...carry('loraA', ofA, 'gradient').data]).toEqual(
      [1, 2, 4, 5, 7, 8, 10, 11].map((i) => Math.fround(i / 7)),
    );
  });

  it.each([0, 1, 3])('is one of %i with which a plain LoRA gives the same outputs', (count) => {
    const logAlphas = [0, 1, 2].map((rank) => (rank < count ? 0 : 9));
    const { layers } = pruned({ a: logAlphas, b: [0, 0, 0], c: [0, 0, 0] });
    const layer = tensorAt(layers, 'a');
    const values = initialOf(layer);
    const x = tf.randomNormal([5, 4], 0, 1, 'float32', 3);
    const y = forwardOf(layer, tensorsOf(values), x, tf.zeros([5, 6]));
    const delta = loraDelta(layer.toLora?.(values) ?? expect.fail('no factors'));
    const expected = tf.matMul(x, tf.tensor2d(delta, [4, 6]));
    expect(layer.rank?.(values)).toBe(count);
    if (count === 0) expect(Math.max(...y.dataSync().map(Math.abs), ...delta.map(Math.abs))).toBe(0);
    else expect(relativeDistance(y.dataSync(), expected.dataSync())).toBeLessThan(1e-5);
  });
});

describe('a budget', () => {
  const uneven = [linearSite('small', 4, 6), linearSite('wide', 10, 20)];
  const noise = { small: [9, 8, 7], wide: [6, 5, 4] };

  it('is a lower limit for pruning by the threshold', () => {
    // Of 120 stored, the worst three ranks of cost 10 are pruned; the next one, of cost 30, would leave 60.
    expect(ranksOf(pruned(noise, { budget: 70 }, { of: uneven }).layers)).toEqual([0, 3]);
    expect(ranksOf(pruned(noise, { budget: 115 }, { of: uneven }).layers)).toEqual([3, 3]);
  });

  it('is applied before the final phase, by log alpha whatever the threshold, and holds from then on', () => {
    const learnt = { small: [-1, -2, -3], wide: [-4, -5, -6] };
    const { layers, controller } = pruned(learnt, { budget: 70 }, { of: uneven, step: 84 });
    expect(ranksOf(layers)).toEqual([1, 2]);
    expect(allocatedCost(layers)).toBe(70);
    expect([84, 85].map((step) => controller.holdsBudget(step))).toEqual([false, true]);
    expect(controller.scalars(85, {})).toEqual({});
  });

  it('keeps equal ranks in the order of the modules, as many as it pays for', () => {
    const equal = { a: [1, 1, 1], b: [1, 1, 1], c: [1, 1, 1] };
    const { layers, resized } = pruned(equal, { budget: 40 }, { step: 84 });
    expect(ranksOf(layers)).toEqual([3, 1, 0]);
    expect([
      ...tensorAt(resized, 'b').carry('logSigma2', hostTensor(Float32Array.of(1, 2, 3), [3]), 'value').data,
    ]).toEqual([1]);
  });

  it('throws if its cut was skipped', () => {
    const { controller } = controllerOf({ budget: 60 });
    expect(() => controller.scalars(85, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
  });
});

it('trains again after its cut to a budget that its ranks meet within 2 %', async () => {
  const peft = attach(toyModel(), bayesLora({ r: 3, targetModules: ['query', 'in'], budget: 89 }), { seed: 1 });
  const training = { executor: await referenceExecutor(), epochs: 3, learningRate: 0.02 };
  await train(peft, toyTrainingData(), training);
  const { stored } = countParameters(peft);
  expect(stored).toBeLessThan(0.99 * 89);
  await train(peft, toyTrainingData(), training);
  expect(countParameters(peft).stored).toBe(stored);
});

it('says so if it has pruned everything that was trained', async () => {
  const options = { r: 3, targetModules: ['query', 'in'], logAlphaThreshold: -100 };
  const peft = attach(toyModel(), bayesLora(options), { seed: 1, trainHead: false });
  const training = { executor: await referenceExecutor(), epochs: 3, learningRate: 0.02 };
  await expect(train(peft, toyTrainingData(), training)).rejects.toThrow(
    expect.objectContaining({
      code: 'PEFT_TRAINING',
      message:
        'the bayes-lora adapter has nothing left to train: no module has a rank, and no head is trained; prune less, or train the head',
    }),
  );
});

it('resumes right before and after an event as if it had not stopped', async () => {
  const options = { r: 3, targetModules: ['query', 'in'], logAlphaThreshold: 1, budget: 100 };
  const { whole, resumed } = await resumedAroundResize(bayesLora(options), { epochs: 3 });
  expect(resumed).toEqual([whole.values, whole.values]);
});
