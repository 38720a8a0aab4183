import { adalora, rankBudget, type AdaloraConfig } from '@peftjs/adalora';
import { hostTensor } from '@peftjs/core';
import {
  createRng,
  hostFilled,
  tensorAt,
  type AdapterLayers,
  type Controller,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import { rankCost, rankUnit } from '@peftjs/core/ranks';
import { linearSite } from '@peftjs/core/model';
import { controllerOf, layersOf } from '@peftjs/conformance';
import { describe, expect, it } from 'vitest';

const shapes = [
  [32, 96],
  [32, 32],
  [32, 128],
  [128, 32],
] as const;
const sites = [0, 1].flatMap((layer) => shapes.map(([i, o], index) => linearSite(`${layer}.${index}`, i, o)));
const plan: TrainPlan = { totalSteps: 40, warmupSteps: 4, finalSteps: 12 };
const last = plan.totalSteps - plan.finalSteps;
const base: Partial<AdaloraConfig> = { initR: 6, targetR: 4 };

const started = (layers: AdapterLayers, options: Partial<AdaloraConfig>, course = plan): Controller =>
  controllerOf(adalora, layers, { ...base, ...options }, course);

const liveOf = (values: HostTensors): number[] =>
  sites.map(({ path }) => [...tensorAt(values, `${path}.loraE`).data].filter((value) => value !== 0).length);

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

interface Step {
  readonly step: number;
  readonly masked: boolean;
  readonly live: readonly number[];
  readonly frozen: number;
}

/** Simulates a run in which every E changes at every step, so that masked triplets regrow, as with Adam's momentum. */
function run(options: Partial<AdaloraConfig>, scoreOf: (draw: number) => number, restartAt = 0): Step[] {
  const rng = createRng(3);
  const layers = layersOf(adalora, sites, { ...base, ...options });
  let controller = started(layers, options);
  const values: HostTensors = {};
  const r = base.initR ?? 0;
  for (const { path } of sites) {
    values[`${path}.loraE`] = hostTensor(new Float32Array(r), [r]);
    values[`${path}.mask`] = hostTensor(new Float32Array(r).fill(1), [r]);
  }
  return Array.from({ length: plan.totalSteps }, (_, index) => {
    const step = index + 1;
    const { frozen = NaN } = controller.scalars(step, {});
    for (const { path } of sites) {
      const mask = tensorAt(values, `${path}.mask`).data;
      const moved = tensorAt(values, `${path}.loraE`).data;
      const loraE = Float32Array.from(moved, (value, rank) => (frozen && !mask[rank] ? 0 : value + rng.normal()));
      values[`${path}.loraE`] = hostTensor(loraE, [r]);
      values[`${path}.importance`] = hostTensor(
        Float32Array.from({ length: r }, () => scoreOf(rng.uniform())),
        [r],
      );
    }
    const names = controller.reads(step);
    if (names.length > 0) {
      const seen = Object.fromEntries(names.map((name) => [name, tensorAt(values, name)]));
      Object.assign(values, controller.afterStep(step, seen)?.values);
    }
    if (step === restartAt) {
      const state = controller.snapshot();
      controller = started(layers, options);
      controller.restore(JSON.parse(JSON.stringify(state)) as typeof state);
    }
    return { step, masked: names.length > 0, live: liveOf(values), frozen };
  });
}

const schedule = {
  initialBudget: 6 * sites.length,
  targetBudget: 4 * sites.length,
  tinit: plan.warmupSteps,
  tfinal: plan.finalSteps,
  totalSteps: plan.totalSteps,
};

describe('allocation', () => {
  it.each([1, 3])('trap 16: keeps exactly floor(b(t)) triplets after every mask, every %i steps', (deltaT) => {
    const steps = run({ deltaT }, (draw) => draw);
    for (const { step, masked, live } of steps) {
      const due = step > plan.warmupSteps && step <= last && (step % deltaT === 0 || step === last);
      expect(masked).toBe(due);
      if (masked) expect(sum(live)).toBe(Math.floor(rankBudget(step, schedule)));
    }
  });

  it('trap 16: holds its budget at every step of the final phase', () => {
    const steps = run({}, (draw) => draw);
    const final = steps.slice(last - 1);
    for (const { live } of final) expect(live).toEqual(final[0]?.live);
    expect(sum(final[0]?.live ?? [])).toBe(schedule.targetBudget);
    expect(new Set(final[0]?.live).size).toBeGreaterThan(1);
    expect(steps.map(({ frozen }) => frozen)).toEqual(steps.map(({ step }) => (step > last ? 1 : 0)));
  });

  it('trap 16: lets masked triplets regrow between masks', () => {
    const steps = run({ deltaT: 7 }, (draw) => draw);
    expect(sum(steps[13]?.live ?? [])).toBeLessThan(schedule.initialBudget);
    expect(sum(steps[14]?.live ?? [])).toBe(schedule.initialBudget);
  });

  it('trap 17: keeps the exact number among equal scores, by index', () => {
    const final = run({}, () => 0).at(-1)?.live ?? [];
    expect(final).toEqual([6, 6, 6, 6, 6, 2, 0, 0]);
  });

  it('drops all scores that equal the greatest dropped one, as the released allocator does', () => {
    const final = run({ allocator: 'released' }, () => 0).at(-1)?.live ?? [];
    expect(sum(final)).toBe(0);
    const distinct = run({ allocator: 'released' }, (draw) => draw).at(-1)?.live ?? [];
    expect(sum(distinct)).toBe(schedule.targetBudget);
  });

  it.each(['paper', 'released'] as const)('trap 17: changes nothing if nothing has to be dropped: %s', (allocator) => {
    for (const scoreOf of [(draw: number) => draw, () => 0]) {
      for (const { live } of run({ targetR: 6, allocator }, scoreOf)) expect(live).toEqual(sites.map(() => 6));
    }
  });

  it('keeps the most important triplets of all modules', () => {
    const layers = layersOf(adalora, sites.slice(0, 2), { initR: 2, targetR: 1 });
    const controller = started(layers, { initR: 2, targetR: 1 }, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
    const pair = (a: number, b: number) => hostTensor(Float32Array.of(a, b), [2]);
    const changes = controller.afterStep(1, {
      '0.0.importance': pair(5, 1),
      '0.0.loraE': pair(-2, 3),
      '0.1.importance': pair(2, 4),
      '0.1.loraE': pair(1, 1),
    });
    expect([...tensorAt(changes?.values ?? {}, '0.0.loraE').data]).toEqual([-2, 0]);
    expect([...tensorAt(changes?.values ?? {}, '0.1.mask').data]).toEqual([0, 1]);
  });
});

describe('a budget in parameters', () => {
  const full = 6 * rankUnit(sites);
  const storedOf = (live: readonly number[]): number =>
    sum(live.map((count, index) => count * rankCost(sites[index] ?? expect.fail('no site'))));

  it.each([0.3, 0.5, 0.66])('is met within 1 percent: %f of everything', (share) => {
    const budget = 32 * Math.round((share * full) / 32) + 10; // costs are multiples of 32
    const final = run({ budgetUnit: 'parameters', budget }, (draw) => draw).slice(last - 1);
    for (const { live } of final) {
      expect(storedOf(live)).toBeLessThanOrEqual(budget);
      expect(storedOf(live)).toBeGreaterThanOrEqual(0.99 * budget);
    }
  });

  it('would not be met by a count of triplets', () => {
    const target = 4 * rankUnit(sites);
    const stored = storedOf(run({}, () => 0).at(-1)?.live ?? []);
    expect(Math.abs(stored / target - 1)).toBeGreaterThan(0.02);
  });

  it('is fitted to: 1.5 times its ranks to start with, and the budget itself as target', () => {
    const fitted = adalora.fitBudget?.(sites, 4 * rankUnit(sites) + 100, adalora.parseConfig({}));
    expect(fitted).toMatchObject({ initR: 7, targetR: 4, budgetUnit: 'parameters', budget: 4 * rankUnit(sites) + 100 });
    expect(() => adalora.fitBudget?.(sites, 63, adalora.parseConfig({}))).toThrow(/stores 64/);
  });
});

describe('the run around it', () => {
  it('holds its budget from the final mask on', () => {
    const controller = started(layersOf(adalora, sites, base), { deltaT: 1000 });
    expect(controller.holdsBudget(last)).toBe(false);
    const values = Object.fromEntries(controller.reads(last).map((name) => [name, hostFilled([6], 1)]));
    controller.afterStep(last, values);
    expect([last - 1, last, plan.totalSteps].map((step) => controller.holdsBudget(step))).toEqual([false, true, true]);
  });

  it('resumes from a snapshot with the same result', () => {
    const whole = run({ deltaT: 3 }, (draw) => draw);
    for (const at of [2, 10, last, 35]) expect(run({ deltaT: 3 }, (draw) => draw, at)).toEqual(whole);
  });

  it.each([1, 5])('trap 23: throws when an allocation was skipped, every %i steps', (deltaT) => {
    const controller = started(layersOf(adalora, sites, base), { deltaT });
    const first = deltaT === 1 ? plan.warmupSteps + 1 : 5;
    for (let step = 1; step <= first; step++) controller.scalars(step, {});
    expect(() => controller.scalars(first + 1, {})).toThrow(expect.objectContaining({ code: 'PEFT_TRAINING' }));
  });

  it('counts its phases from a given totalStep, starting at the first step unless tinit is given, as in PEFT', () => {
    const steps = run({ totalStep: 30, tfinal: 6 }, (draw) => draw);
    expect(steps.flatMap(({ step, masked }) => (masked ? [step] : []))).toEqual(
      Array.from({ length: 24 }, (_, index) => index + 1),
    );
    for (const { live } of steps.slice(23)) expect(sum(live)).toBe(schedule.targetBudget);
    const late = run({ totalStep: 30, tinit: 10, tfinal: 6, deltaT: 4 }, (draw) => draw);
    expect(late.flatMap(({ step, masked }) => (masked ? [step] : []))).toEqual([12, 16, 20, 24]);
  });

  it.each([
    ['totalStep', { totalStep: 60 }],
    ['tinit', { tinit: 28, tfinal: 12 }],
    ['tinit', { tfinal: 40 }],
    ['budget', { budgetUnit: 'parameters', budget: 63 }],
    ['budget', { budgetUnit: 'parameters', budget: 1e9 }],
  ] as const)('names an option that does not fit: %s', (path, options) => {
    expect(() => started(layersOf(adalora, sites, base), options)).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path }),
    );
  });
});
