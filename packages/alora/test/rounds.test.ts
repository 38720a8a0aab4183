import {
  mapValues,
  tensorAt,
  tensorsAt,
  type AdapterLayers,
  type Controller,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import { allocatedRanks } from '@peftjs/core/ranks';
import { linearSite, withResized } from '@peftjs/core/model';

import { adapterValues, controllerOf, hostVector, initialOf, layersOf, resumedAroundResize } from '@peftjs/conformance';
import { alora, type AloraConfig } from '@peftjs/alora';
import { describe, expect, it } from 'vitest';

const sites = ['a', 'b', 'c'].map((path) => linearSite(path, 4, 6));
const plan: TrainPlan = { totalSteps: 100, warmupSteps: 5, finalSteps: 20 };
const options: Partial<AloraConfig> = { r: 3, rounds: 2, firstRound: 0.1, roundInterval: 0.2, movedShare: 2 / 9 };

function started(more: Partial<AloraConfig> = {}, layers = layersOf(alora, sites, { ...options, ...more })) {
  return { layers, controller: controllerOf(alora, layers, { ...options, ...more }, plan) };
}

/** Returns the gates of all layers as a controller reads them. */
const gatesOf = (layers: AdapterLayers): HostTensors =>
  adapterValues(mapValues(layers, (layer) => (layer.state ? tensorsAt(initialOf(layer), 'gate') : {})));

/** Returns each probe's loss if every rank lowers the loss by its value. */
function additive(controller: Controller, step: number, gates: HostTensors, worth: Readonly<Record<string, number[]>>) {
  return mapValues(controller.probes?.(step, gates) ?? {}, (instead) => {
    let loss = 5;
    for (const [key, { data }] of Object.entries({ ...gates, ...instead })) {
      Array.from(data, (gate, rank) => (loss -= gate * (worth[key.slice(0, -'.gate'.length)]?.[rank] ?? NaN)));
    }
    return loss;
  });
}

const ranksOf = (layers: AdapterLayers): Record<string, number> => mapValues(layers, allocatedRanks);

/** Runs a round after a step, with ranks of these values. */
function round(controller: Controller, layers: AdapterLayers, step: number, worth: Readonly<Record<string, number[]>>) {
  const gates = gatesOf(layers);
  expect(controller.reads(step)).toEqual(Object.keys(gates));
  const { resized = {} } = controller.afterStep(step, gates, additive(controller, step, gates, worth)) ?? {};
  return { resized, layers: withResized(layers, resized) };
}

const WORTH = { a: [0.5, -0.1, 0.4], b: [0.3, 0.2, 0.6], c: [0.9, 0.1, 0.8] };

it('a budget is filled in one round where none was asked for', () => {
  const { controller, layers } = started({ rounds: 0, budget: 120 });
  expect([9, 10, 11].map((step) => controller.reads(step).length > 0)).toEqual([false, true, false]);
  const ranks = Object.values(ranksOf(round(controller, layers, 10, WORTH).layers));
  expect(ranks.reduce((sum, r) => sum + r, 0)).toBe(12); // of 4 + 6 parameters
});

describe('the score of a rank', () => {
  it('is S(M) - S(M without it) + S(M with it alone), on 2 R + 1 losses', () => {
    const { controller, layers } = started();
    const losses = additive(controller, 10, gatesOf(layers), WORTH);
    expect(controller.probeRows).toBe(32);
    expect(Object.keys(losses)).toHaveLength(2 * 9 + 1);
    expect(losses['the whole adapter']).toBeCloseTo(5 - 3.7);
    expect(losses['without b.gate 2']).toBeCloseTo(5 - 3.1);
    expect(losses['b.gate 2 alone']).toBeCloseTo(5 - 0.6);
    expect(controller.probes?.(11, {})).toEqual({});
  });

  it('follows the values of ranks if they add up: the lowest are pruned, and b, which lost none, gets as many', () => {
    const { controller, layers } = started();
    const after = round(controller, layers, 10, WORTH);
    expect(ranksOf(after.layers)).toEqual({ a: 2, b: 5, c: 2 });
    const index = hostVector([0, 1, 2]);
    expect([...tensorAt(after.resized, 'a').carry('gate', index, 'value').data]).toEqual([0, 2]);
  });

  it('counts losses, not gains: of harmful ranks the worst goes first', () => {
    const { controller, layers } = started({ movedShare: 1 / 9 });
    const { resized } = round(controller, layers, 10, { a: [-1, -3, -2], b: [1, 1, 1], c: [2, 2, 2] });
    const index = hostVector([0, 1, 2]);
    expect([...tensorAt(resized, 'a').carry('gate', index, 'value').data]).toEqual([0, 2]);
    expect(Object.keys(resized)).toEqual(['a', 'c']);
  });
});

describe('a new rank', () => {
  const { controller, layers } = started();
  const { layer } = tensorAt(round(controller, layers, 10, WORTH).resized, 'b');

  it('starts like the initial ones: A random, B zero, gate one', () => {
    const { loraA, loraB, gate } = tensorsAt(initialOf(layer), 'loraA', 'loraB', 'gate');
    expect([...gate.data]).toEqual([1, 1, 1, 1, 1]);
    expect([...loraB.data].slice(3 * 6)).toEqual(Array(12).fill(0));
    const drawn = [...loraA.data].filter((_, index) => index % 5 > 2);
    expect(drawn.every((value) => value !== 0 && Math.abs(value) <= 0.5)).toBe(true); // 1 / sqrt(4)
  });
});

describe('a run', () => {
  it('continues without a module that has lost all its ranks', () => {
    const { controller, layers } = started({ movedShare: 3 / 9 });
    const first = round(controller, layers, 10, { ...WORTH, a: [-1, -1, -1] });
    expect(ranksOf(first.layers)).toEqual({ a: 0, b: 4, c: 5 });
    const second = round(controller, first.layers, 30, { b: [0.1, 0.2, 0.3, 0.4], c: [1, 1, 1, 1, 1] });
    expect(ranksOf(second.layers)).toEqual({ a: 0, b: 1, c: 8 });
  });

  it('resumes right before and after a round as if it had not stopped', async () => {
    const options = {
      r: 2,
      rounds: 1,
      firstRound: 0.25,
      movedShare: 0.25,
      probeRows: 8,
      targetModules: ['query', 'in'],
    };
    const { whole, resumed } = await resumedAroundResize(alora(options));
    expect(resumed).toEqual([whole.values, whole.values]);
  });

  it('throws after a skipped round', () => {
    expect(() => started().controller.scalars(11, {})).toThrow(
      expect.objectContaining({ code: 'PEFT_TRAINING', message: expect.stringMatching(/step 11.*step 10/) as string }),
    );
  });

  it('holds its budget from the last round on', () => {
    const { controller, layers } = started({ budget: 90 });
    const first = round(controller, layers, 10, { a: [0, 1, 1], b: [0, 1, 1], c: [1, 1, 1] });
    const after = round(controller, first.layers, 30, { a: [0, 1], b: [1, 1], c: [0, 1, 1, 1, 1] });
    expect(Object.values(ranksOf(after.layers)).reduce((sum, ranks) => sum + ranks, 0)).toBe(9);
    expect([10, 30, 31].map((step) => controller.holdsBudget(step))).toEqual([false, false, true]);
  });
});
