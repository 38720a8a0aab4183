import { hostTensor } from '@peftjs/core';
import {
  createRng,
  hostFilled,
  mapValues,
  tensorAt,
  type AdapterLayers,
  type Controller,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import { rankCost } from '@peftjs/core/ranks';
import { linearSite } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import { adapterValues, controllerOf, hostVector, layersOf } from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';

const shapes = [
  [32, 96],
  [32, 32],
  [32, 128],
  [128, 32],
] as const;
const sites = [0, 1].flatMap((layer) => shapes.map(([i, o], index) => linearSite(`${layer}.${index}`, i, o)));
const r = 6;
const full = sites.reduce((sum, each) => sum + r * rankCost(each), 0);

const started = (layers: AdapterLayers, options: Partial<SoraConfig>, plan: TrainPlan): Controller =>
  controllerOf(sora, layers, { r, ...options }, plan);

const storedOf = (layers: AdapterLayers, values: HostTensors): number =>
  Object.entries(layers).reduce(
    (sum, [path, layer]) => sum + layer.storedParameters({ gate: tensorAt(values, `${path}.gate`) }),
    0,
  );

/** A simulated run: gates with target values, noisy gradients and Adam, as in training. */
interface Toy {
  readonly options: Partial<SoraConfig>;
  readonly plan: TrainPlan;
  readonly seed: number;
  readonly rate?: number;
  /** How strongly gates are pulled towards their targets. */
  readonly pull?: number;
}

interface ToyRun {
  readonly values: HostTensors;
  readonly stored: readonly number[];
  readonly thresholds: readonly number[];
  readonly controller: Controller;
}

function run({ options, plan, seed, rate = 5e-3, pull = 1 }: Toy, restartAt = 0): ToyRun {
  const rng = createRng(seed);
  const layers = layersOf(sora, sites, { r, ...options });
  let controller = started(layers, options, plan);
  const values: HostTensors = {};
  for (const { path, inFeatures, outFeatures } of sites) {
    values[`${path}.gate`] = normalValues(rng, [r], 1);
    values[`${path}.loraA`] = normalValues(rng, [inFeatures, r], 0.1);
    values[`${path}.loraB`] = normalValues(rng, [r, outFeatures], 0.1);
    values[`${path}.mask`] = hostTensor(new Float32Array(r).fill(1), [r]);
  }
  const wanted = sites.map(() => Array.from({ length: r }, () => (rng.uniform() < 0.5 ? 0 : 1.5 * rng.normal())));
  const moments = sites.map(() => Array.from({ length: r }, () => ({ m: 0, v: 0 })));
  const [stored, thresholds]: [number[], number[]] = [[], []];
  for (let step = 1; step <= plan.totalSteps; step++) {
    const { totalSteps, warmupSteps } = plan;
    const learningRate =
      rate *
      (step <= warmupSteps ? step / (warmupSteps + 1) : 1 - (step - 1 - warmupSteps) / (totalSteps - warmupSteps));
    const { threshold = NaN } = controller.scalars(step, { default: 1, gate: learningRate });
    thresholds.push(threshold);
    sites.forEach(({ path }, index) => {
      const mask = tensorAt(values, `${path}.mask`).data;
      const gate = Float32Array.from(tensorAt(values, `${path}.gate`).data, (value, rank) => {
        const at = (moments[index] as { m: number; v: number }[])[rank] as { m: number; v: number };
        const slope = pull * (value - ((wanted[index] as number[])[rank] as number)) + 3 * rng.normal();
        at.m = 0.9 * at.m + 0.1 * slope;
        at.v = 0.999 * at.v + 0.001 * slope ** 2;
        const move = at.m / (1 - 0.9 ** step) / (Math.sqrt(at.v / (1 - 0.999 ** step)) + 1e-8);
        const proposed = value - learningRate * move;
        return mask[rank] === 0 ? 0 : Math.sign(proposed) * Math.max(Math.abs(proposed) - threshold, 0);
      });
      values[`${path}.gate`] = hostTensor(gate, [r]);
    });
    const names = controller.reads(step);
    if (names.length > 0) {
      const seen = Object.fromEntries(names.map((name) => [name, tensorAt(values, name)]));
      Object.assign(values, controller.afterStep(step, seen)?.values);
    }
    if (step === restartAt) {
      const state = JSON.parse(JSON.stringify(controller.snapshot())) as ReturnType<Controller['snapshot']>;
      controller = started(layers, options, plan);
      controller.restore(state);
    }
    stored.push(storedOf(layers, values));
  }
  return { values, stored, thresholds, controller };
}

const plan: TrainPlan = { totalSteps: 300, warmupSteps: 18, finalSteps: 90 };
const freeze = plan.totalSteps - plan.finalSteps;

describe('a fixed threshold', () => {
  it('reads no gates, keeps only the numbers of ranks as state, and always holds the budget', () => {
    const controller = started(layersOf(sora, sites, { r }), {}, plan);
    for (let step = 1; step <= plan.totalSteps; step++) expect(controller.reads(step)).toEqual([]);
    expect(controller.holdsBudget(1)).toBe(true);
    expect(controller.snapshot()).toEqual({ ranks: sites.map(() => r) });
  });

  it('reads the gates every compactEvery steps once the warm-up is over', () => {
    const controller = started(layersOf(sora, sites, { r }), { compactEvery: 10 }, plan);
    const steps = Array.from({ length: 45 }, (_, index) => index + 1);
    expect(steps.filter((step) => controller.reads(step).length > 0)).toEqual([20, 30, 40]);
    expect(controller.reads(20)).toEqual(sites.map(({ path }) => `${path}.gate`));
  });
});

describe('a budget', () => {
  const cases = [0.75, 0.5, 0.25].flatMap((share) =>
    (
      [
        [1, 'lr', plan, 5e-3, 1],
        [2, 'constant', plan, 5e-3, 1],
        [3, 'lr', { totalSteps: 60, warmupSteps: 3, finalSteps: 18 }, 2e-3, 0.1],
        [4, 'lr', { totalSteps: 1500, warmupSteps: 90, finalSteps: 450 }, 5e-3, 3],
        [5, 'lr', { totalSteps: 20, warmupSteps: 0, finalSteps: 6 }, 3e-4, 1],
      ] as const
    ).map(([seed, thresholdMode, course, rate, pull]) => ({ share, seed, thresholdMode, course, rate, pull })),
  );

  it.each(cases)(
    'is met within 1 % from the freeze to the end: $share of everything, seed $seed, $thresholdMode',
    ({ share, seed, thresholdMode, course, rate, pull }) => {
      const budget = Math.round(share * full);
      const { stored, controller } = run({ options: { budget, thresholdMode }, plan: course, seed, rate, pull });
      const from = course.totalSteps - course.finalSteps;
      for (const count of stored.slice(from - 1)) {
        expect(count).toBeLessThanOrEqual(budget);
        expect(count).toBeGreaterThanOrEqual(0.99 * budget);
      }
      expect(controller.holdsBudget(from)).toBe(true);
      expect(controller.holdsBudget(from - 1)).toBe(false);
    },
  );

  it.each([
    ['paper', 5e-3, plan.warmupSteps],
    ['paper', 3e-4, plan.warmupSteps],
    ['choosing', 5e-3, (plan.warmupSteps + freeze) / 2],
    ['choosing', 3e-4, (plan.warmupSteps + freeze) / 2],
  ] as const)(
    "is approached along a smooth curve by the variant '%s', at a rate of %f from step %i on",
    (variant, rate, from) => {
      const budget = Math.round(0.5 * full);
      for (const seed of [1, 2, 3]) {
        const { stored, thresholds } = run({ options: { budget, variant }, plan, seed, rate });
        expect(thresholds.slice(0, from).every((threshold) => threshold === 0)).toBe(true);
        expect(stored.slice(0, from)).toEqual(stored.slice(0, from).map(() => full));
        stored.slice(from, freeze - 1).forEach((count, index) => {
          const progress = (index + 1) / (freeze - from);
          const target = budget + (full - budget) * 0.5 * (1 + Math.cos(Math.PI * progress));
          expect(Math.abs(count - target) / full).toBeLessThan(0.25);
        });
        const middle = stored[Math.round((from + freeze) / 2)] as number;
        expect(Math.abs(middle / full - 0.75)).toBeLessThan(0.1);
      }
    },
  );

  it('sets the threshold to 0 once it is applied', () => {
    const { thresholds } = run({ options: { budget: 0.5 * full }, plan, seed: 1 });
    expect(thresholds.slice(freeze).every((threshold) => threshold === 0)).toBe(true);
  });

  it('keeps the ranks with the largest change per stored parameter', () => {
    const pair = [linearSite('cheap', 10, 10), linearSite('dear', 30, 50)];
    const layers = layersOf(sora, pair, { r: 2 });
    const controller = started(layers, { r: 2, budget: 100 }, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
    const one = (rows: number, columns: number) => hostFilled([rows, columns], 1);
    const norm = (each: { inFeatures: number; outFeatures: number }) => Math.sqrt(each.inFeatures * each.outFeatures);
    const [cheap, dear] = [norm(pair[0] ?? expect.fail()), norm(pair[1] ?? expect.fail())];
    const values = {
      'cheap.gate': hostTensor(Float32Array.of(-0.5 / cheap, 0.1 / cheap), [2]),
      'cheap.loraA': one(10, 2),
      'cheap.loraB': one(2, 10),
      'dear.gate': hostTensor(Float32Array.of(0.3 / dear, 0.9 / dear), [2]),
      'dear.loraA': one(30, 2),
      'dear.loraB': one(2, 50),
    };
    const changes = controller.afterStep(1, values)?.values ?? {};
    // 0.5 for 20 and 0.9 for 80 fill the budget; 0.3 for 80 would not pay.
    expect([...tensorAt(changes, 'cheap.mask').data]).toEqual([1, 0]);
    expect([...tensorAt(changes, 'dear.mask').data]).toEqual([0, 1]);
    expect(tensorAt(changes, 'dear.gate').data[0]).toBe(0);
    expect(tensorAt(changes, 'cheap.gate').data[0]).toBe(Math.fround(-0.5 / cheap));
  });

  it('fills the budget from equal ranks in the order of their indices', () => {
    const layers = layersOf(sora, [linearSite('a', 4, 4), linearSite('b', 4, 4)], { r: 3 });
    const controller = started(layers, { r: 3, budget: 32 }, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
    const equal = (...shape: number[]) => hostFilled(shape, 0.5);
    const own = { gate: equal(3), loraA: equal(4, 3), loraB: equal(3, 4) };
    const values = adapterValues({ a: own, b: own });
    const changes = controller.afterStep(1, values)?.values ?? {};
    expect([...tensorAt(changes, 'a.mask').data, ...tensorAt(changes, 'b.mask').data]).toEqual([1, 1, 1, 1, 0, 0]);
  });

  it.each(['loraA', 'loraB'])('measures a rank by its gate and by the norm of its vector in %s', (factor) => {
    const layers = layersOf(sora, [linearSite('m', 2, 2)], { r: 2 });
    const controller = started(layers, { r: 2, budget: 4 }, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
    const values = {
      'm.gate': hostTensor(Float32Array.of(0.5, -0.4), [2]),
      'm.loraA': hostTensor(Float32Array.of(1, 1, 1, 1), [2, 2]),
      'm.loraB': hostTensor(Float32Array.of(1, 1, 1, 1), [2, 2]),
      // The second rank: column 1 of A, row 1 of B.
      [`m.${factor}`]: hostTensor(
        factor === 'loraA' ? Float32Array.of(1, 3, 1, 3) : Float32Array.of(1, 1, 3, 3),
        [2, 2],
      ),
    };
    expect([...tensorAt(controller.afterStep(1, values)?.values ?? {}, 'm.mask').data]).toEqual([0, 1]);
  });

  it('revives pruned gates if too few survive, too small to change the outputs noticeably, and counts them', () => {
    const layers = layersOf(sora, sites, { r });
    const budget = Math.round(full / 2);
    const controller = started(layers, { budget }, plan);
    const values = adapterValues(
      mapValues(layers, ({ site: { inFeatures, outFeatures } }) => ({
        gate: hostVector([-0.8, 0, 0, 0, 0, 0]),
        loraA: normalValues(createRng(1), [inFeatures, r], 0.1),
        loraB: normalValues(createRng(2), [r, outFeatures], 0.1),
      })),
    );
    const changes = controller.afterStep(freeze, values)?.values ?? {};
    const count = storedOf(layers, changes);
    expect(count).toBeLessThanOrEqual(budget);
    expect(count).toBeGreaterThanOrEqual(0.99 * budget);
    for (const { path } of sites) {
      const gate = [...tensorAt(changes, `${path}.gate`).data];
      expect(gate[0]).toBeCloseTo(-0.8, 6);
      for (const value of gate.slice(1)) expect(Math.abs(value)).toBeLessThanOrEqual(Math.fround(1e-3));
      const live = gate.map((value) => (value === 0 ? 0 : 1));
      expect([...tensorAt(changes, `${path}.mask`).data]).toEqual(live);
    }
  });

  it('resumes from a snapshot with the same result', () => {
    const toy: Toy = { options: { budget: 0.5 * full }, plan, seed: 4 };
    const whole = run(toy);
    for (const at of [10, 100, freeze, 250]) expect(run(toy, at).stored).toEqual(whole.stored);
  });

  it('throws when the step of its selection was skipped', () => {
    const controller = started(layersOf(sora, sites, { r }), { budget: 0.5 * full }, plan);
    controller.scalars(freeze, { gate: 1 });
    expect(() => controller.scalars(freeze + 1, { gate: 1 })).toThrow(
      expect.objectContaining({ code: 'PEFT_TRAINING' }),
    );
  });

  it.each([
    ['less than one rank', 63, plan],
    ['no step to prune in', 0.5 * full, { totalSteps: 5, warmupSteps: 0, finalSteps: 5 }],
  ])('refuses %s', (_, budget, course) => {
    expect(() => started(layersOf(sora, sites, { r }), { budget }, course)).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'budget' }),
    );
  });
});
