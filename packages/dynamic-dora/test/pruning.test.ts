import { activeAdapter, attach, loadPretrained, memoryStorage, savePretrained, type PeftModel } from '@peftjs/core';
import { createRng, mapValues, tensorAt, type AdapterLayers, type Site, type TrainPlan } from '@peftjs/core/method';
import { allocatedCost, allocatedRanks } from '@peftjs/core/ranks';
import { linearSite, withResized } from '@peftjs/core/model';

import { controllerOf, hostVector, layersOf, resumedAroundResize, toyModel, trainToy } from '@peftjs/conformance';
import { dynamicDora, type DynamicDoraConfig } from '@peftjs/dynamic-dora';
import { describe, expect, it } from 'vitest';

const planOf = (totalSteps: number): TrainPlan => ({
  totalSteps,
  warmupSteps: 0,
  finalSteps: Math.floor(0.3 * totalSteps),
});

/** Returns a controller on some modules, with the scores that it reads. */
function started(
  sites: readonly Site[],
  options: Partial<DynamicDoraConfig>,
  plan: TrainPlan,
  layers = layersOf(dynamicDora, sites, options),
) {
  const controller = controllerOf(dynamicDora, layers, options, plan);
  const after = (step: number, score: (path: string, rank: number) => number) => {
    const read = controller.reads(step).map((name) => {
      const path = name.slice(0, name.lastIndexOf('.'));
      const ranks = Array.from({ length: allocatedRanks(tensorAt(layers, path)) }, (_, rank) => rank);
      return [name, hostVector(ranks.map((rank) => (name.endsWith('gate') ? 1 : score(path, rank))))] as const;
    });
    return controller.afterStep(step, Object.fromEntries(read)) ?? {};
  };
  return { layers, controller, after };
}

const ranksOf = (layers: AdapterLayers): Record<string, number> => mapValues(layers, allocatedRanks);

const eventsOf = (
  totalSteps: number,
  options: Partial<DynamicDoraConfig> = {},
  plan = planOf(totalSteps),
): number[] => {
  const { controller } = started([linearSite('m', 4, 6)], options, plan);
  return Array.from({ length: totalSteps }, (_, index) => index + 1).filter(
    (step) => controller.reads(step).length > 0,
  );
};

describe('the schedule', () => {
  it('prunes 1, 6, 53, 181 and 288 of 864 components at steps 150 to 500 of 1000, so that two thirds stay', () => {
    const sites = Array.from({ length: 72 }, (_, index) => linearSite(`m${index}`, 1, 1));
    const options = { r: 12, targetR: 8, rankUpdateRatio: 0.1 };
    const { layers, controller, after } = started(sites, options, planOf(1000));
    const scores = createRng(1);
    const steps = [150, 250, 350, 450, 500];
    expect(eventsOf(1000, options)).toEqual(steps);
    const pruned = steps.map((step) => {
      const { values = {}, resized } = after(step, () => scores.uniform());
      const kept = Object.values(withResized(layers, resized)).reduce((sum, layer) => sum + allocatedRanks(layer), 0);
      const zeros = Object.values(values).flatMap(({ data }) => [...data].filter((gate) => gate === 0)).length;
      return zeros + 864 - kept;
    });
    expect(pruned).toEqual([1, 6, 53, 181, 288]);
    expect([500, 501].map((step) => controller.holdsBudget(step))).toEqual([true, true]);
  });

  it("equals the released example's in its 8,025 steps: every 100 steps from 15 % to half of them", () => {
    const events = eventsOf(8025);
    expect(events.slice(0, 3)).toEqual([1204, 1304, 1404]);
    expect(events.slice(-2)).toEqual([4004, 4012]);
    expect(events).toHaveLength(30);
  });

  it('scales with the run, waits for the warm-up, and ends before the final phase at the latest', () => {
    const events = eventsOf(120);
    expect([events[0], events[1], events.at(-1), events.length]).toEqual([18, 20, 60, 22]);
    expect(eventsOf(120, { rankUpdateRatio: 0.1 }, { totalSteps: 120, warmupSteps: 30, finalSteps: 72 })).toEqual([
      30, 42, 48,
    ]);
    expect(eventsOf(4, {}, { totalSteps: 4, warmupSteps: 0, finalSteps: 3 })).toEqual([1]);
  });

  it('throws if no step is left to score ranks in, and if the choice was skipped', () => {
    const at = (totalSteps: number, options = {}) => started([linearSite('m', 4, 6)], options, planOf(totalSteps));
    expect(() => at(4, { endRatio: 0.2, startRatio: 0 })).toThrow(expect.objectContaining({ path: 'endRatio' }));
    const { controller } = at(100);
    expect(controller.scalars(50, {})).toEqual({ dem: 1 });
    expect(() => controller.scalars(51, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
  });
});

describe('the pruned components', () => {
  const sites = ['a', 'b', 'c'].map((path) => linearSite(path, 4, 6));
  const table: Record<string, readonly number[]> = { a: [0.1, 0.9, 0.2], b: [0.3, 0.3, 0.3], c: [0.05, 0.02, 0.4] };
  const score = (path: string, rank: number): number => table[path]?.[rank] ?? NaN;

  it('are the lowest over all modules; until the end their gates are zero, then they are removed', () => {
    const options = { r: 3, startRatio: 0.2, endRatio: 0.4, rankUpdateRatio: 0.18 };
    const { layers, controller, after } = started(sites, options, planOf(100));
    expect(controller.holdsBudget(38)).toBe(false);
    const { values = {}, resized: none } = after(38, score);
    expect(none).toBeUndefined();
    expect(Object.keys(values)).toEqual(['c.gate']);
    expect([...tensorAt(values, 'c.gate').data]).toEqual([0, 0, 1]); // floor(3 (18 / 20)^3) = 2
    const { resized = {} } = after(40, score);
    expect(ranksOf(withResized(layers, resized))).toEqual({ a: 2, b: 3, c: 1 });
    expect(resized.a?.carry('importance', hostVector([0.1, 0.9, 0.2]), 'value')).toEqual(hostVector([0.9, 0.2]));
    expect(resized.c?.carry('importance', hostVector([0.05, 0.02, 0.4]), 'value')).toEqual(hostVector([0.4]));
  });

  it('have the exact number if scores are equal: the last ones', () => {
    const { layers, after } = started(sites, { r: 3, targetR: 1.4 }, planOf(100));
    const { resized } = after(50, () => 0);
    expect(ranksOf(withResized(layers, resized))).toEqual({ a: 3, b: 2, c: 0 });
  });

  it('are none if all are kept', () => {
    const { after } = started(sites, { r: 3, targetR: 3 }, planOf(100));
    expect([after(18, score).values, after(50, score).resized]).toEqual([{}, undefined]);
  });
});

describe('a budget', () => {
  const bert = Array.from({ length: 6 }, (_, layer) => [
    ...['query', 'key', 'value', 'output'].map((name) => linearSite(`${layer}.${name}`, 768, 768)),
    linearSite(`${layer}.ffn.in`, 768, 3072),
    linearSite(`${layer}.ffn.out`, 3072, 768),
    linearSite(`${layer}.small`, 128, 512),
  ]).flat();
  const unit = bert.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0);
  const preferences: Record<string, (path: string) => number> = {
    'any modules': () => 1,
    'the widest': (path) => (path.includes('ffn') ? 100 : 1),
    'the narrowest': (path) => (path.includes('ffn') ? 0.01 : 1),
  };

  it.each([1, 2, 4, 8])('of %i ranks is met within 2 percent, whichever modules are important', (ranks) => {
    const config = dynamicDora.fitBudget?.(bert, ranks * unit, dynamicDora.parseConfig({})) ?? expect.fail('no budget');
    expect(config.r).toBe(Math.ceil(1.5 * ranks));
    const layers = layersOf(dynamicDora, bert, config);
    for (const weight of Object.values(preferences)) {
      const { after } = started(bert, config, planOf(120), layers);
      const scores = createRng(ranks);
      const { resized } = after(60, (path) => weight(path) * scores.uniform());
      const stored = allocatedCost(withResized(layers, resized));
      expect(stored).toBeLessThanOrEqual(ranks * unit);
      expect(stored).toBeGreaterThanOrEqual(0.98 * ranks * unit);
    }
  });

  it('is filled by giving up the worst kept component if the best ones in order leave too much of it', () => {
    const uneven = [linearSite('small', 4, 6), linearSite('wide', 10, 25)];
    const { layers, after } = started(uneven, { r: 2, budget: 45 }, planOf(100));
    const { resized } = after(50, (path, rank) => (path === 'small' ? 2 : 1) - rank / 10);
    expect(ranksOf(withResized(layers, resized))).toEqual({ small: 1, wide: 1 });
  });
});

it.each([
  ['two thirds of 12', {}, 8],
  ['what 34 parameters pay for in whole ranks', { budget: 34 }, 1],
])('prunes to %s when it is trained again, also from a file for further training', async (_, target, ranks) => {
  const options = { r: 3, startRatio: 0.25, endRatio: 0.26, targetModules: ['query', 'in'], ...target };
  const countOf = (peft: PeftModel): number =>
    Object.values(ranksOf(activeAdapter(peft).layers)).reduce((sum, ranks) => sum + ranks, 0);
  const peft = attach(toyModel(), dynamicDora(options), { seed: 1 });
  await trainToy(peft, { epochs: 4 });
  const file = memoryStorage();
  await savePretrained(peft, 'adapter', { storage: file, pruned: false });
  await trainToy(peft, { epochs: 4 });
  const loaded = await loadPretrained(toyModel(), 'adapter', { storage: file, methods: [dynamicDora] });
  const { demWeight } = activeAdapter(loaded).config as DynamicDoraConfig;
  expect(demWeight / countOf(loaded)).toBeCloseTo(0.1 / 12, 12); // its term is a mean over the initial components
  await trainToy(loaded, { epochs: 4 });
  expect([countOf(peft), countOf(loaded)]).toEqual([ranks, ranks]);
});

it('resumes right before and after the choice of ranks as if it had not stopped', async () => {
  const options = { r: 3, startRatio: 0.25, endRatio: 0.26, targetModules: ['query', 'in'] };
  const { whole, resumed } = await resumedAroundResize(dynamicDora(options));
  expect(Object.values(ranksOf(whole.layers)).reduce((sum, ranks) => sum + ranks, 0)).toBe(8); // of 12
  expect(resumed).toEqual([whole.values, whole.values]);
});
