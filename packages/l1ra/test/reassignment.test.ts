import { allocatedRanks } from '@peftjs/core/ranks';
import { activeRanks, onWarning } from '@peftjs/core';
import {
  mapValues,
  tensorAt,
  type AdapterLayers,
  type ControllerChanges,
  type HostTensors,
  type Site,
  type TrainPlan,
} from '@peftjs/core/method';
import { linearSite, storedParameters, withResized } from '@peftjs/core/model';

import { adapterValues, controllerOf, hostVector, initialOf, layersOf, resumedAroundResize } from '@peftjs/conformance';
import { l1ra, type L1raConfig } from '@peftjs/l1ra';
import { describe, expect, it } from 'vitest';

const sites = ['a', 'b', 'c'].map((path) => linearSite(path, 4, 6));
const plan: TrainPlan = { totalSteps: 100, warmupSteps: 5, finalSteps: 20 };

/** Returns the gates of every module, by path, as a controller reads them. */
function readOf(gates: Readonly<Record<string, number[]>>): HostTensors {
  return adapterValues(mapValues(gates, (gate) => ({ gate: hostVector(gate) })));
}

/** Returns the decision for these gates, after 10 of 100 steps by default. */
function decided(
  gates: Readonly<Record<string, number[]>>,
  options: Partial<L1raConfig> = {},
  { step = 10, of = sites }: { readonly step?: number; readonly of?: readonly Site[] } = {},
) {
  const config = { r: 3, ...options };
  const layers = layersOf(l1ra, of, config);
  const controller = controllerOf(l1ra, layers, config, plan);
  const read = readOf(gates);
  expect(controller.reads(step)).toEqual(Object.keys(read));
  const changes: ControllerChanges = controller.afterStep(step, read) ?? {};
  return { changes, layers: withResized(layers, changes.resized), controller };
}

/** Returns the numbers of ranks by path. */
const ranksOf = (layers: AdapterLayers): Record<string, number> => mapValues(layers, allocatedRanks);

describe('ranks', () => {
  it('go from modules whose gates vanished to those that lost none, in turn, the largest smallest gate first', () => {
    const { changes, layers } = decided({ a: [0, 0, 1], b: [0.5, 0.9, 0.6], c: [0.7, 0.8, 1] });
    expect(ranksOf(layers)).toEqual({ a: 1, b: 4, c: 4 });
    expect(changes.restartsOptimizer).toBe(true);
    const first = decided({ a: [1, 0, 1], b: [0.5, 0.9, 0.6], c: [0.7, 0.8, 1] });
    expect(ranksOf(first.layers)).toEqual({ a: 2, b: 3, c: 4 });
  });

  it('keep the last one of a module even if its gate vanished; the module then gets none', () => {
    const { layers } = decided({ a: [0, 0, 0], b: [0, 0.4, 0.4], c: [0.1, 1, 1] });
    expect(ranksOf(layers)).toEqual({ a: 1, b: 2, c: 6 });
  });

  it('are lost if every module has lost some, unless excludePruned is false, and with reassign: false', () => {
    const gates = { a: [0, 1, 1], b: [1, 0, 1], c: [1, 1, 0] };
    expect(ranksOf(decided(gates).layers)).toEqual({ a: 2, b: 2, c: 2 });
    expect(ranksOf(decided(gates, { excludePruned: false }).layers)).toEqual({ a: 3, b: 3, c: 3 });
    const one = { a: [0, 1, 1], b: [1, 1, 1], c: [1, 1, 1] };
    expect(ranksOf(decided(one, { reassign: false }).layers)).toEqual({ a: 2, b: 3, c: 3 });
  });

  it('stay, without an optimizer restart, if no gate has vanished', () => {
    expect(decided({ a: [1e-9, 1, 1], b: [1, 1, 1], c: [1, 1, 1] }).changes).toEqual({});
    const higher = decided({ a: [1e-9, 1, 1], b: [1, 1, 1], c: [1, 1, 1] }, { pruneThreshold: 1e-8 });
    expect(ranksOf(higher.layers)).toEqual({ a: 2, b: 4, c: 3 });
  });

  it('are checked every tenth of the steps, after the warm-up', () => {
    const controller = controllerOf(l1ra, layersOf(l1ra, sites, { r: 3 }), { r: 3 }, { ...plan, warmupSteps: 25 });
    const steps = Array.from({ length: plan.totalSteps }, (_, index) => index + 1);
    const looked = steps.filter((step) => controller.reads(step).length > 0);
    expect(looked).toEqual([30, 40, 50, 60, 70, 80, 90]);
  });
});

describe('a run in which no rank moves', () => {
  /** Returns the warnings of a run of 100 steps with these smallest gates at each look, stopped and resumed midway. */
  function warningsOf(looks: Readonly<Record<number, number>>, options: Partial<L1raConfig> = {}): string[] {
    const warnings: string[] = [];
    const restore = onWarning((line) => warnings.push(line));
    const config = { r: 3, ...options };
    const layers = layersOf(l1ra, sites, config);
    let controller = controllerOf(l1ra, layers, config, plan);
    for (const [step, least] of Object.entries(looks)) {
      controller.afterStep(Number(step), readOf({ a: [least, 1, 1], b: [1, 1, 1], c: [1, 1, 1] }));
      const state = controller.snapshot();
      controller = controllerOf(l1ra, layers, config, plan);
      controller.restore(state);
    }
    restore();
    return warnings;
  }

  it('says so after its last look at the gates, also if it was resumed', () => {
    expect(warningsOf({ 10: 0.5, 80: 0.5 })).toEqual([]);
    expect(warningsOf({ 10: 0, 90: 0.5 })).toEqual([]);
    expect(warningsOf({ 10: 0.5, 70: 0.5 }, { budget: 90 })).toEqual([]);
    expect(warningsOf({ 10: 0, 80: 0.5 }, { budget: 90 })).toEqual([]);
    expect(warningsOf({ 10: 0.5, 90: 0.5 })).toEqual([
      'l1ra: no gate reached zero in 100 steps, so no rank moved; train longer, or raise l1raLambda (0.001 shrinks a gate by 0.0020 in such a run)',
    ]);
    expect(warningsOf({ 10: 0.5, 80: 0.5 }, { budget: 90, etaC: 0.1 })).toEqual([
      'l1ra: no gate reached zero in 100 steps, so no rank moved; train longer, or raise l1raLambda (0.001 shrinks a gate by 0.010 in such a run)',
    ]);
  });
});

it('a run with one rank per module says that none can move', () => {
  const warnings: string[] = [];
  const restore = onWarning((line) => warnings.push(line));
  const controller = controllerOf(l1ra, layersOf(l1ra, sites, { r: 1 }), { r: 1 }, plan);
  controller.afterStep(90, readOf({ a: [0], b: [0.5], c: [1] }));
  restore();
  expect(warnings).toEqual([
    'l1ra: every module has one rank, and the last rank of a module never moves; start with more',
  ]);
});

describe('a new rank', () => {
  const { changes } = decided({ a: [0, 0.5, 1], b: [1, 1, 1], c: [0.2, 1, 1] });
  const { layer } = tensorAt(changes.resized ?? {}, 'b');

  it('starts like the initial ones: A random with 1 / r, B zero, gate one', () => {
    const { loraA, loraB, gate } = layer.params;
    expect(loraA?.initial.shape).toEqual([4, 4]);
    expect([...(loraB?.initial.data ?? [])].slice(-6)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(gate?.initial.data[3]).toBe(1);
    const drawn = Array.from({ length: 4 }, (_, row) => loraA?.initial.data[4 * row + 3] ?? 0);
    expect(drawn.every((value) => value !== 0 && Math.abs(value) < 5 / 3)).toBe(true);
  });

  it('depends on the seed of the run only', () => {
    const again = decided({ a: [0, 0.5, 1], b: [1, 1, 1], c: [0.2, 1, 1] });
    expect(tensorAt(again.changes.resized ?? {}, 'b').layer.params.loraA).toEqual(layer.params.loraA);
    const later = decided({ a: [0, 0.5, 1], b: [1, 1, 1], c: [0.2, 1, 1] }, {}, { step: 20 });
    expect(tensorAt(later.changes.resized ?? {}, 'b').layer.params.loraA).not.toEqual(layer.params.loraA);
  });
});

it('a run resumes right before and after a reassignment as if it had not stopped', async () => {
  const options = { r: 3, l1raLambda: 0.7, etaC: 0.2, rankUpdateRatio: 0.25, targetModules: ['query', 'in'] };
  const { whole, resumed } = await resumedAroundResize(l1ra(options));
  expect(resumed).toEqual([whole.values, whole.values]);
});

describe('a budget', () => {
  const uneven = [linearSite('small', 4, 6), linearSite('wide', 10, 20)];

  it('counts parameters: a rank moves if the free parameters pay for it', () => {
    const gates = { small: [0, 0, 1], wide: [1, 1, 1] };
    expect(ranksOf(decided(gates, { budget: 120 }, { of: uneven }).layers)).toEqual({ small: 1, wide: 3 });
    expect(ranksOf(decided(gates, { budget: 130 }, { of: uneven }).layers)).toEqual({ small: 1, wide: 4 });
  });

  it('is filled before the final phase, and holds from then on', () => {
    const gates = { small: [0, 0, 1], wide: [1, 1, 1] };
    const { layers, controller } = decided(gates, { budget: 120 }, { of: uneven, step: 80 });
    const values = adapterValues(mapValues(layers, initialOf));
    expect(ranksOf(layers)).toEqual({ small: 3, wide: 3 });
    expect(storedParameters(layers, values)).toBe(120);
    expect(activeRanks(layers, values)).toEqual({ small: 3, wide: 3 });
    expect([80, 81].map((step) => controller.holdsBudget(step))).toEqual([false, true]);
    expect([80, 81].map((step) => controller.scalars(step, {}).leastGate)).toEqual([0, 1e-10]);
    const high = decided(gates, { budget: 120, pruneThreshold: 0.1 }, { of: uneven, step: 80 });
    expect(high.controller.scalars(81, {}).leastGate).toBe(1e-10);
  });

  it('throws if its filling was skipped, and if the initial ranks exceed it', () => {
    const layers = layersOf(l1ra, uneven, { r: 3 });
    const controller = controllerOf(l1ra, layers, { r: 3, budget: 120 }, plan);
    expect(() => controller.scalars(81, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
    expect(() => controllerOf(l1ra, layers, { r: 3, budget: 100 }, plan)).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'budget' }),
    );
  });
});
