import type { TrainOptions } from '@peftjs/core';
import {
  createRng,
  mapTensor,
  mapValues,
  tensorAt,
  type ControllerChanges,
  type HostTensors,
  type Site,
  type TrainPlan,
} from '@peftjs/core/method';
import { allocatedCost, allocatedRanks } from '@peftjs/core/ranks';
import { linearSite, withResized } from '@peftjs/core/model';
import { loraDelta } from '@peftjs/core/linalg';

import { adapterValues, controllerOf, hostVector, initialOf, layersOf, resumedAroundResize } from '@peftjs/conformance';
import { elaLora, type ElaLoraConfig } from '@peftjs/ela-lora';
import { describe, expect, it } from 'vitest';

/** RTE in the released script: 78 epochs over 2,490 rows in batches of 64; no moves in the last 500 steps. */
const rte: TrainPlan = { totalSteps: 1950, warmupSteps: 117, finalSteps: 500 };

type Scores = Readonly<Record<string, readonly number[]>>;

/** Returns a controller on some modules that start with as many ranks as they have scores. */
function started(sites: readonly Site[], options: Partial<ElaLoraConfig>, plan: TrainPlan = rte) {
  const layers = layersOf(elaLora, sites, options);
  const controller = controllerOf(elaLora, layers, options, plan);
  let held = layers;
  const values = (scores: Scores): HostTensors =>
    adapterValues(
      mapValues(held, (layer, path) => {
        const importance = hostVector(scores[path] ?? []);
        return { ...initialOf(layer), gate: mapTensor(importance, () => 0.5), importance };
      }),
    );
  const after = (step: number, scores: Scores): ControllerChanges => {
    const all = values(scores);
    const seen = Object.fromEntries(controller.reads(step).map((name) => [name, tensorAt(all, name)]));
    const changes = controller.afterStep(step, seen) ?? {};
    held = withResized(held, changes.resized);
    return changes;
  };
  return { layers, controller, after, values, ranks: () => Object.values(held).map(allocatedRanks), held: () => held };
}

const stepsOf = (plan: TrainPlan, options: Partial<ElaLoraConfig> = {}): number[] => {
  const { controller } = started([linearSite('m', 20, 30)], options, plan);
  return Array.from({ length: plan.totalSteps }, (_, index) => index + 1).filter(
    (step) => controller.reads(step).length > 0,
  );
};

const uneven: Scores = { a: [1, 2, 9], b: [3, 4], c: [5, 6, 7, 8] };
const unevenSites = Object.keys(uneven).map((path) => linearSite(path, 10, 12));
const unevenRanks: Partial<ElaLoraConfig> = { rankPattern: { a: 3, b: 2, c: 4 }, movedRanks: 2, candidateRanks: 2 };

describe('ranks', () => {
  it('move from the lowest to the modules with the highest among the ranks that may move', () => {
    const { after, ranks } = started(unevenSites, unevenRanks);
    const { restartsOptimizer } = after(350, uneven);
    expect(ranks()).toEqual([1, 2, 6]); // of 1, 2, 3, 5 and 6
    expect(restartsOptimizer).toBe(false);
    expect(started(unevenSites, { ...unevenRanks, restartsOptimizer: true }).after(350, uneven).restartsOptimizer).toBe(
      true,
    );
  });

  it('may be lost and gained in one module, where the old one goes first', () => {
    const { after, ranks } = started(unevenSites, { ...unevenRanks, movedRanks: 1 });
    const { resized = {} } = after(350, { a: [5, 8, 9], b: [6, 1], c: [7, 20, 20, 20] });
    expect(ranks()).toEqual([3, 1, 5]);
    expect(Object.keys(resized)).toEqual(['b', 'c']);
    const again = started(unevenSites, { ...unevenRanks, movedRanks: 1 });
    const { resized: same = {} } = again.after(350, { a: [1, 8, 9], b: [1, 1], c: [0, 20, 20, 20] });
    expect([Object.keys(same), again.ranks()]).toEqual([['c'], [3, 2, 4]]);
    expect(same.c?.carry('importance', hostVector([0, 20, 20, 20]), 'value')).toEqual(hostVector([20, 20, 20, 0]));
  });

  it('move in the exact number if scores are equal: the last ones go to the first modules', () => {
    const { after, ranks } = started(unevenSites, unevenRanks);
    after(350, { a: [0, 0, 0], b: [0, 0], c: [0, 0, 0, 0] });
    expect(ranks()).toEqual([5, 2, 2]);
  });

  it('fill a budget after the last move: up to 2 % above, where no number of ranks comes as near from below', () => {
    const { after, held } = started(unevenSites, { ...unevenRanks, budget: 432 }); // a rank stores 22
    after(1450, uneven);
    expect(allocatedCost(held())).toBe(440);
  });

  it('stay if every module has only one, or if a module has as many as its smaller side', () => {
    const bare = started(unevenSites, { r: 1 });
    expect(bare.after(350, { a: [1], b: [2], c: [3] })).toEqual({});
    const narrow = started([linearSite('a', 10, 12), linearSite('b', 2, 12)], { r: 2, movedRanks: 1 });
    narrow.after(350, { a: [1, 2], b: [3, 4] });
    expect(narrow.ranks()).toEqual([2, 2]);
  });
});

describe('the schedule', () => {
  it("equals the released script's for RTE: 67 moves, every 50 steps from 350 to 1350, fewer each time", () => {
    const sites = ['a', 'b', 'c'].map((path) => linearSite(path, 40, 50));
    const steps = stepsOf(rte);
    expect(steps).toEqual(Array.from({ length: 21 }, (_, index) => 350 + 50 * index));
    const moves = steps.map((step) => {
      const { after } = started(sites, { candidateRanks: 4 });
      const gained = after(step, {
        a: Array<number>(10).fill(2),
        b: Array<number>(10).fill(1),
        c: Array<number>(10).fill(3),
      });
      return allocatedRanks(tensorAt(gained.resized ?? {}, 'c').layer) - 10;
    });
    expect(moves).toEqual([...Array<number>(11).fill(4), 3, 3, 3, 3, 3, 2, 2, 2, 1, 1]);
    expect(moves.reduce((sum, count) => sum + count, 0)).toBe(67);
  });

  it('scales with the run, and ends before the final phase', () => {
    const steps = stepsOf({ totalSteps: 120, warmupSteps: 7, finalSteps: 36 });
    expect([steps[0], steps[1], steps.at(-1), steps.length]).toEqual([21, 24, 81, 21]);
    const fewer = stepsOf({ totalSteps: 120, warmupSteps: 30, finalSteps: 36 }, { rankUpdateRatio: 0.1 });
    expect(fewer).toEqual([42, 54, 66, 78]);
  });
});

describe('a new rank', () => {
  const { layers, after, values } = started(unevenSites, unevenRanks);
  const before = values(uneven);
  const { resized = {} } = after(350, uneven);
  const { layer, carry } = tensorAt(resized, 'c');
  const carried = (name: string) => carry(name, tensorAt(before, `c.${name}`), 'value');

  it("has directions of length 1, orthogonal to the module's and to each other", () => {
    const [a, b] = [carried('loraA'), carried('loraB')];
    const columns = Array.from({ length: 6 }, (_, rank) =>
      Array.from({ length: 10 }, (_, row) => a.data[row * 6 + rank] ?? NaN),
    );
    const rows = Array.from({ length: 6 }, (_, rank) => [...b.data.slice(rank * 12, (rank + 1) * 12)]);
    const dot = (x: readonly number[], y: readonly number[]): number =>
      x.reduce((sum, value, index) => sum + value * (y[index] ?? NaN), 0);
    for (const vectors of [columns, rows]) {
      for (const [index, each] of vectors.entries()) {
        for (const [rank, fresh] of vectors.entries()) {
          if (rank >= 4) expect(dot(each, fresh), `${index}, ${rank}`).toBeCloseTo(index === rank ? 1 : 0, 6);
        }
      }
    }
  });

  it('changes no output, keeps the other ranks, and has no score yet', () => {
    const old = layers.c?.toLora?.({ ...valuesOf(before), gate: tensorAt(before, 'c.gate') }) ?? expect.fail('no LoRA');
    const now =
      layer.toLora?.({ loraA: carried('loraA'), gate: carried('gate'), loraB: carried('loraB') }) ?? expect.fail();
    expect([old.scaling, now.scaling]).toEqual([4, 4]);
    const [delta, previous] = [loraDelta(now), loraDelta(old)];
    expect(Math.max(...delta.map((value, index) => Math.abs(value - (previous[index] ?? NaN))))).toBeLessThan(1e-9);
    expect([...carried('gate').data].slice(4)).toEqual([1e-13, 1e-13].map(Math.fround));
    expect([...carry('importance', hostVector([5, 6, 7, 8]), 'value').data]).toEqual([5, 6, 7, 8, 0, 0]);
  });

  function valuesOf(all: HostTensors): HostTensors {
    return { loraA: tensorAt(all, 'c.loraA'), loraB: tensorAt(all, 'c.loraB') };
  }
});

describe('a budget', () => {
  const bert = Array.from({ length: 6 }, (_, layer) => [
    ...['query', 'key', 'value', 'output'].map((name) => linearSite(`${layer}.${name}`, 768, 768)),
    linearSite(`${layer}.ffn.in`, 768, 3072),
    linearSite(`${layer}.ffn.out`, 3072, 768),
    linearSite(`${layer}.small`, 128, 512),
  ]).flat();
  const unit = bert.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0);

  it.each([
    [1, 'ffn'],
    [2, 'ffn'],
    [4, 'small'],
    [8, 'ffn'],
  ])('of %i ranks holds within 2 percent even if all moves go to %s', (ranks, favourite) => {
    const config = elaLora.fitBudget?.(bert, ranks * unit, elaLora.parseConfig({})) ?? expect.fail('no budget');
    const { controller, after, held } = started(
      bert,
      { ...config, rankUpdateRatio: 0.2 },
      { totalSteps: 120, warmupSteps: 0, finalSteps: 36 },
    );
    const drawn = createRng(ranks);
    const scores = (): Scores =>
      mapValues(held(), (layer, path) =>
        Array.from({ length: allocatedRanks(layer) }, () => (path.includes(favourite) ? 10 : 1) * drawn.uniform()),
      );
    for (const step of [42, 66, 84]) if (controller.reads(step).length > 0) after(step, scores());
    expect(controller.holdsBudget(85)).toBe(true);
    expect(Math.abs(allocatedCost(held()) / (ranks * unit) - 1)).toBeLessThanOrEqual(0.02);
  });

  it('is never missed where there is none', () => {
    const plan: TrainPlan = { totalSteps: 100, warmupSteps: 5, finalSteps: 20 };
    const { controller } = started([linearSite('small', 4, 6)], { r: 2 }, plan);
    expect([1, 80].map((step) => controller.holdsBudget(step))).toEqual([true, true]);
  });

  it('is filled before the final phase, by the modules whose lowest score is highest', () => {
    const sites = [linearSite('small', 4, 6), linearSite('wide', 10, 20)];
    const plan: TrainPlan = { totalSteps: 100, warmupSteps: 5, finalSteps: 20 };
    const { controller, after, ranks } = started(sites, { r: 2, budget: 112 }, plan);
    expect([80, 81].map((step) => controller.holdsBudget(step))).toEqual([false, false]);
    expect(() => controller.scalars(81, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
    after(80, { small: [1, 9], wide: [2, 2] });
    expect(ranks()).toEqual([2, 3]); // 110 of 112
    expect(controller.holdsBudget(80)).toBe(true);
    expect(controller.scalars(81, {})).toEqual({});
  });
});

it('resumes right before and after a move as if it had not stopped, at the rates of the schedule', async () => {
  const options = { r: 2, startRatio: 0, rankUpdateRatio: 0.25, movedRanks: 1, targetModules: ['query', 'in'] };
  const rates: number[] = [];
  const onStep: TrainOptions['onStep'] = ({ learningRate }) => void rates.push(learningRate);
  const { whole, resumed } = await resumedAroundResize(elaLora(options), { finalRatio: 0.6, onStep });
  expect(Object.values(whole.layers).map(allocatedRanks).sort()).toEqual([1, 2, 2, 3]);
  for (const fall of rates.slice(1, 16).map((rate, index) => (rates[index] ?? NaN) - rate)) {
    expect(fall).toBeCloseTo(0.02 / 16, 9);
  }
  expect(resumed).toEqual([whole.values, whole.values]);
});
