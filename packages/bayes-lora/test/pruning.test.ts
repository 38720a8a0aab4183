import { attach, countParameters } from '@peftjs/core';
import {
  hostFilled,
  mapValues,
  tensorAt,
  type AdapterLayer,
  type AdapterLayers,
  type HostTensors,
  type Site,
  type TrainPlan,
} from '@peftjs/core/method';
import { allocatedCost, allocatedRanks } from '@peftjs/core/ranks';
import { linearSite, withResized } from '@peftjs/core/model';

import {
  adapterValues,
  controllerOf,
  hostVector,
  initialOf,
  layersOf,
  resumedAroundResize,
  toyModel,
  trainToy,
} from '@peftjs/conformance';
import { bayesLora, type BayesLoraConfig } from '@peftjs/bayes-lora';
import { describe, expect, it } from 'vitest';

const sites = ['a', 'b', 'c'].map((path) => linearSite(path, 4, 6));
const plan: TrainPlan = { totalSteps: 120, warmupSteps: 7, finalSteps: 36 };

function started(options: Partial<BayesLoraConfig>, of: readonly Site[] = sites, at = plan) {
  const config = { r: 3, ...options };
  const layers = layersOf(bayesLora, of, config);
  return { layers, controller: controllerOf(bayesLora, layers, config, at) };
}

function valuesOf(layers: AdapterLayers, logAlphas: Readonly<Record<string, readonly number[]>>): HostTensors {
  const ofLayer = (layer: AdapterLayer, path: string): HostTensors => {
    const { loraA, loraB } = mapValues(initialOf(layer), ({ shape }) => hostFilled(shape, 1));
    return { loraA, loraB, logSigma2: hostVector(logAlphas[path] ?? []) } as HostTensors;
  };
  return adapterValues(mapValues(layers, ofLayer));
}

/** Returns what remains after a step of modules whose ranks have these log alphas. */
function pruned(
  logAlphas: Readonly<Record<string, readonly number[]>>,
  options: Partial<BayesLoraConfig> = {},
  { step = 24, of = sites }: { readonly step?: number; readonly of?: readonly Site[] } = {},
) {
  const { layers, controller } = started(options, of);
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
    const { controller } = started(options, sites, at);
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
    expect(tensorAt(resized, 'b').carry('logSigma2', hostVector([1, 2, 3]), 'value')).toEqual(hostVector([1]));
  });

  it('throws if its cut was skipped', () => {
    const { controller } = started({ budget: 60 });
    expect(() => controller.scalars(85, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
  });
});

it('trains again after its cut to a budget that its ranks meet within 2 %', async () => {
  const peft = attach(toyModel(), bayesLora({ r: 3, targetModules: ['query', 'in'], budget: 89 }), { seed: 1 });
  await trainToy(peft, { epochs: 3 });
  const { stored } = countParameters(peft);
  expect(stored).toBeLessThan(0.99 * 89);
  await trainToy(peft, { epochs: 3 });
  expect(countParameters(peft).stored).toBe(stored);
});

it('says so if it has pruned everything that was trained', async () => {
  const options = { r: 3, targetModules: ['query', 'in'], logAlphaThreshold: -100 };
  const peft = attach(toyModel(), bayesLora(options), { seed: 1, trainHead: false });
  await expect(trainToy(peft, { epochs: 3 })).rejects.toThrow(
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
