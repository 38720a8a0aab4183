import { activeAdapter, hostTensor, loadPretrained, memoryStorage, savePretrained, type PeftModel } from '@peftjs/core';
import {
  createRng,
  floats,
  mapValues,
  tensorAt,
  tensorsAt,
  type Controller,
  type HostTensor,
  type HostTensors,
  type TrainPlan,
} from '@peftjs/core/method';
import { linearSite, storedParameters } from '@peftjs/core/model';
import { loraDelta, normalValues, rowNorms, transposed } from '@peftjs/core/linalg';
import type { TrainingSnapshot } from '@peftjs/core/runtime';
import {
  adapterValues,
  controllerOf,
  hostVector,
  initialOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  toyOutputs,
} from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import { beforeAll, describe, expect, it } from 'vitest';
import { attached, trainToy } from './harness.js';

beforeAll(referenceBackend);

const sites = [linearSite('a', 6, 9), linearSite('b', 8, 3)];
const r = 5;
/** Ranks are separated after step 7, halfway from 4 to 10. */
const plan: TrainPlan = { totalSteps: 14, warmupSteps: 4, finalSteps: 4 };
const AT = 7;
const options = { r, variant: 'choosing', budget: 40 } as const;

const normal = (name: string, ...shape: number[]): HostTensor => normalValues(createRng(5).fork(name), shape, 1);

/** An adapter during training: A and B from N(0, 1), and these gates. */
function valuesOf(gates: Readonly<Record<string, readonly number[]>>): HostTensors {
  return Object.fromEntries(
    sites.flatMap(({ path, inFeatures, outFeatures }) => [
      [`${path}.loraA`, normal(`${path}.A`, inFeatures, r)],
      [`${path}.loraB`, normal(`${path}.B`, r, outFeatures)],
      [`${path}.gate`, hostVector(gates[path] as number[])],
    ]),
  );
}

function separated(values: HostTensors, given: Partial<SoraConfig> = options): HostTensors {
  const controller = controllerOf(sora, layersOf(sora, sites, given), given, plan);
  expect(new Set(controller.reads(AT))).toEqual(new Set(Object.keys(values)));
  const changes = controller.afterStep(AT, values);
  expect(changes?.restartsOptimizer).toBe(true);
  return { ...values, ...changes?.values };
}

/** A diag(g) B */
function change(values: HostTensors, path: string): Float32Array {
  const [loraA, loraB] = [tensorAt(values, `${path}.loraA`), tensorAt(values, `${path}.loraB`)];
  const gate = floats(tensorAt(values, `${path}.gate`));
  const gated = floats(loraB).map(
    (value, index) => value * (gate[Math.floor(index / (loraB.shape[1] as number))] ?? NaN),
  );
  return loraDelta({ loraA, loraB: hostTensor(gated, loraB.shape), scaling: 1 });
}

const dot = (x: ArrayLike<number>, y: ArrayLike<number>): number =>
  Array.from(x).reduce((sum, value, index) => sum + value * (y[index] as number), 0);
const rowsOf = (matrix: HostTensor): number[][] => {
  const [rows, width] = matrix.shape as [number, number];
  return Array.from({ length: rows }, (_, row) => [...matrix.data].slice(row * width, (row + 1) * width));
};
const gateOf = (values: HostTensors, path: string): number[] => [...tensorAt(values, `${path}.gate`).data];
const uneven = { a: [1, -0.5, 2, 0.1, 1], b: [0.3, 1, 1, -1, 4] };

describe('separated ranks', () => {
  const before = valuesOf(uneven);
  const after = separated(before);

  it.each(['a', 'b'])('change the weight of module %s as before', (path) => {
    expect(relativeDistance([...change(after, path)], [...change(before, path)])).toBeLessThan(1e-5);
  });

  it('are orthogonal and have equal norms apart from the gate', () => {
    const norms: number[] = [];
    for (const path of ['a', 'b']) {
      const live = gateOf(after, path).flatMap((gate, rank) => (gate === 0 ? [] : [rank]));
      for (const matrix of [transposed(tensorAt(after, `${path}.loraA`)), tensorAt(after, `${path}.loraB`)]) {
        const rows = live.map((rank) => rowsOf(matrix)[rank] as number[]);
        norms.push(...rows.map((row) => Math.sqrt(dot(row, row))));
        rows.forEach((row, index) =>
          rows.slice(0, index).forEach((other) => expect(Math.abs(dot(row, other))).toBeLessThan(1e-4 * dot(row, row))),
        );
      }
    }
    norms.forEach((norm) => expect(norm / (norms[0] as number)).toBeCloseTo(1, 5));
  });

  it("have gates in proportion to the change's singular values, whose root mean square is 1", () => {
    const gates = ['a', 'b'].flatMap((path) => gateOf(after, path)).filter((gate) => gate !== 0);
    expect(Math.sqrt(dot(gates, gates) / gates.length)).toBeCloseTo(1, 5);
    // ||dW||^2 is the sum of the squares of the singular values
    const [a, b] = ['a', 'b'].map((path) => dot(gateOf(after, path), gateOf(after, path))) as [number, number];
    const [wholeA, wholeB] = ['a', 'b'].map((path) => dot(change(before, path), change(before, path))) as [
      number,
      number,
    ];
    expect(a / b).toBeCloseTo(wholeA / wholeB, 4);
    expect(gateOf(after, 'a')).toEqual([...gateOf(after, 'a')].sort((x, y) => y - x));
  });

  it('count the scaling of a module in its gates, and leave the change as it was', () => {
    const scaled = separated(before, { ...options, loraAlpha: 1, alphaPattern: { b: 16 } }); // s of b is 16 times that of a
    for (const path of ['a', 'b']) {
      expect(relativeDistance([...change(scaled, path)], [...change(before, path)])).toBeLessThan(1e-5);
    }
    const ratio = (values: HostTensors): number => (gateOf(values, 'b')[0] ?? NaN) / (gateOf(values, 'a')[0] ?? NaN);
    expect(ratio(scaled) / ratio(after)).toBeCloseTo(16, 3);
  });

  it('number at most the smaller side of a module', () => {
    expect(gateOf(after, 'b').slice(3)).toEqual([0, 0]); // [8, 3]
    expect(Math.min(...gateOf(after, 'b').slice(0, 3))).toBeGreaterThan(0);
  });

  it('number two if a change of rank two was spread over all gates', () => {
    const mix = normal('mix', 2, r);
    const [u, v] = [normal('u', 6, 2), normal('v', r, 9)];
    const spread = {
      ...valuesOf({ ...uneven, a: [1, 1, 1, 1, 1] }),
      'a.loraA': hostTensor(loraDelta({ loraA: u, loraB: mix, scaling: 1 }), [6, r]),
      'a.loraB': v,
    };
    const [first = 0, second = 0, ...rest] = gateOf(separated(spread), 'a');
    expect(second).toBeGreaterThan(0.05 * first);
    rest.forEach((gate) => expect(gate).toBeLessThan(1e-5 * first));
  });

  it('keep pruned ranks in their places', () => {
    const partly = valuesOf({ ...uneven, a: [0, 1, 0, -2, 0] });
    const found = separated(partly);
    expect(gateOf(found, 'a').map((gate) => gate !== 0)).toEqual([false, true, false, true, false]);
    expect(relativeDistance([...change(found, 'a')], [...change(partly, 'a')])).toBeLessThan(1e-5);
    const firstRow = (values: HostTensors): number[] => rowsOf(tensorAt(values, 'a.loraB'))[0] as number[];
    expect(firstRow(found)).toEqual(firstRow(partly));
    const dead = valuesOf({ ...uneven, a: [0, 0, 0, 0, 0] });
    expect(tensorAt(separated(dead), 'a.loraA')).toEqual(tensorAt(dead, 'a.loraA'));
  });

  it('stay unchanged while nothing is learned', () => {
    const layers = layersOf(sora, sites, options);
    const initial = adapterValues(mapValues(layers, (layer) => tensorsAt(initialOf(layer), 'gate', 'loraA', 'loraB')));
    expect(rowNorms(tensorAt(initial, 'a.loraB'))).toEqual([0, 0, 0, 0, 0]);
    expect(separated(initial)).toEqual(initial);
  });
});

describe('thresholds', () => {
  const values = valuesOf(uneven);
  const started = (given: Partial<SoraConfig>, of: TrainPlan = plan): Controller =>
    controllerOf(sora, layersOf(sora, sites, { r, ...given }), { r, ...given }, of);
  const thresholdsOf = (controller: Controller): number[] =>
    Array.from({ length: plan.totalSteps }, (_, index) => {
      const { threshold = NaN } = controller.scalars(index + 1, { gate: 0.1 });
      if (controller.reads(index + 1).length > 0) controller.afterStep(index + 1, values);
      return threshold;
    });
  const begun = (controller: Controller): number => 1 + thresholdsOf(controller).findIndex((each) => each > 0);

  it('begin after the separation with a budget, and end with the choice', () => {
    expect(begun(started(options))).toBe(AT + 1);
    expect(begun(started({ ...options, separation: false }))).toBeLessThan(AT);
    expect(thresholdsOf(started(options)).slice(10)).toEqual([0, 0, 0, 0]);
  });

  it('begin halfway between the warm-up and the end without a budget', () => {
    expect(begun(started({ variant: 'choosing' }))).toBe(9 + 1);
    expect(begun(started({}))).toBe(1);
  });

  it('begin at once if there is no step after which to separate ranks', () => {
    const controller = started(options, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
    const chosen = Object.keys(controller.afterStep(1, values)?.values ?? {});
    expect(chosen.sort((a, b) => a.localeCompare(b))).toEqual(['a.gate', 'a.mask', 'b.gate', 'b.mask']);
  });

  it.each([true, false])('give back what they took to the live gates that stay, with separation %s', (separation) => {
    const controller = started({ ...options, budget: 100, separation });
    let taken = 0;
    for (let step = 1; step <= 10; step++) {
      taken += controller.scalars(step, { gate: 0.1 }).threshold ?? NaN;
      if (step < 10 && controller.reads(step).length > 0) controller.afterStep(step, values);
    }
    const dying = { ...values, 'b.gate': hostVector([0, 0, 0, 0, -4]) };
    const after = { ...dying, ...controller.afterStep(10, dying)?.values };
    const kept = [...gateOf(after, 'a'), ...gateOf(after, 'b')].flatMap((gate, rank) =>
      gate === 0 ? [] : [{ gate, rank }],
    );
    const before = [...gateOf(dying, 'a'), ...gateOf(dying, 'b')];
    expect(taken).toBeGreaterThan(0.05);
    expect(kept.length).toBeGreaterThan(4);
    for (const { gate, rank } of kept) {
      const value = before[rank] as number;
      const back = separation ? taken : 0;
      expect(gate).toBeCloseTo(value === 0 ? 1e-3 : value + Math.sign(value) * back, 5);
    }
  });
});

describe('a run that separates ranks', () => {
  const budget = 600;
  const steps = { epochs: 8 }; // 32: separated after 12 of 22
  const attachedAs = (given: Partial<SoraConfig> = {}): PeftModel<SoraConfig> => attached({ r: 6, budget, ...given });

  it('resumes from a snapshot at any step with the same result', async () => {
    const snapshots: TrainingSnapshot[] = [];
    const whole = attachedAs();
    await trainToy(whole, { ...steps, saveEvery: 1, onSnapshot: (snapshot) => void snapshots.push(snapshot) });
    for (const step of [11, 12, 13]) {
      const resumed = attachedAs();
      await trainToy(resumed, { ...steps, resume: snapshots.find((each) => each.step === step) ?? expect.fail() });
      expect(activeAdapter(resumed).values).toEqual(activeAdapter(whole).values);
    }
  });

  it('has the same loss at the step after the separation as without', async () => {
    const lossesOf = async (separation: boolean): Promise<number[]> => {
      const losses: number[] = [];
      const onStep = ({ loss }: { readonly loss: number }): void => void losses.push(loss);
      // Without a threshold the runs differ only by the separation after step 12.
      await trainToy(attachedAs({ separation, sparseLambda: 0, budget: null, variant: 'choosing' }), {
        epochs: 6,
        onStep,
      });
      return losses;
    };
    const [separate, joined] = [await lossesOf(true), await lossesOf(false)];
    expect(separate.slice(0, 12)).toEqual(joined.slice(0, 12));
    expect(separate[12]).toBeCloseTo(joined[12] as number, 5);
    expect(separate[16]).not.toBeCloseTo(joined[16] as number, 5);
  });

  it('continues to train the selected ranks from a file, within the budget', async () => {
    const peft = attachedAs();
    await trainToy(peft, steps);
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage, pruned: false });
    const loaded = (await loadPretrained(peft.model, 'adapter', { storage, methods: [sora] })) as PeftModel<SoraConfig>;
    const outputs = await toyOutputs(loaded);
    expect(outputs).toEqual(await toyOutputs(peft));
    await trainToy(loaded, { ...steps, learningRate: 1e-6 });
    const { layers, values } = activeAdapter(loaded);
    expect(storedParameters(layers, values)).toBeLessThanOrEqual(budget);
    expect(relativeDistance(await toyOutputs(loaded), outputs)).toBeLessThan(1e-2);
  });
});
