import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import {
  activeAdapter,
  activeRanks,
  hostTensor,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  savePretrained,
  withAdapter,
  type Executor,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { floats, tensorAt, type HostTensors } from '@peftjs/core/method';
import { storedParameters } from '@peftjs/core/model';
import { nonZeroIndices } from '@peftjs/core/linalg';
import type { StepEvent, TrainingSnapshot } from '@peftjs/core/runtime';
import {
  gradientsByTape,
  referenceExecutor,
  relativeDistance,
  toyEvaluationData,
  toyOutputs,
  toyTrainingData,
} from '@peftjs/conformance';
import { describe, expect, it } from 'vitest';
import { attached, trainToy } from './harness.js';

/** Returns the live triplets as text, such as `path: 0,2; ..`. */
const liveOf = (peft: PeftModel, values: HostTensors): string =>
  Object.keys(activeAdapter(peft).layers)
    .map((path) => `${path}: ${nonZeroIndices(tensorAt(values, `${path}.loraE`)).join()}`)
    .join('; ');

describe('training', () => {
  it.each([[{}], [{ parametrization: 'lora' as const }]])(
    'reads no factors back to choose ranks, even at every step: %o',
    async (options) => {
      const reference = await referenceExecutor();
      const dims: number[] = [];
      const executor: Executor = {
        ...reference,
        async download(value) {
          const tensor = await reference.download(value as never);
          dims.push(tensor.shape.length);
          return tensor;
        },
      };
      const peft = attached({ deltaT: 1, compact: false, ...options });
      const ranks = new Set<number>();
      const onStep = ({ step, totalSteps, storedParameters }: StepEvent): void => {
        ranks.add(storedParameters);
        if (step < totalSteps) expect(Math.max(...dims), `step ${step}`).toBe(1);
      };
      await trainToy(peft, { executor, epochs: 4, onStep });
      expect(ranks.size).toBeGreaterThan(3);
      expect(Math.max(...dims)).toBe(2); // the final adapter
    },
  );

  it('stops early only once its budget is held', async () => {
    const peft = attached();
    const evaluated: number[] = [];
    const data = { ...toyEvaluationData(2, 1), score: () => ({ accuracy: 0.5 }) };
    const { last, totalSteps, stoppedEarly } = await trainToy(peft, {
      epochs: 6,
      finalRatio: 0.5,
      selection: { data, evaluations: 1 },
      evaluateEvery: 1,
      earlyStopping: { patience: 2 },
      onEvaluation: ({ step }) => evaluated.push(step),
    });
    // Evaluated from the first step on, but counted only from the last allocation on.
    expect(evaluated).toHaveLength(last.step);
    expect([stoppedEarly, last.step]).toEqual([true, totalSteps / 2 + 2]);
    const { layers, values } = activeAdapter(peft);
    const budget = 2 * Object.keys(layers).length;
    expect(Object.values(activeRanks(layers, values)).reduce((sum, rank) => sum + rank, 0)).toBe(budget);
  });

  it('trap 23: calls the allocator itself and ends within 1 percent of a budget, with uneven ranks', async () => {
    const { matched } = activeAdapter(attached()).targets;
    const budget = 600;
    const fitted = adalora.fitBudget?.(matched, budget, adalora.parseConfig({ orthRegWeight: 0.1 }));
    const peft = attached(fitted);
    const stored: number[] = [];
    await trainToy(peft, { epochs: 20, onStep: (event) => stored.push(event.storedParameters) });
    const { layers, values } = activeAdapter(peft);
    expect(storedParameters(layers, values)).toBeLessThanOrEqual(budget);
    expect(storedParameters(layers, values)).toBeGreaterThanOrEqual(0.99 * budget);
    expect(new Set(Object.values(activeRanks(layers, values))).size).toBeGreaterThan(1);
    expect(new Set(stored.slice(-20)).size).toBe(1);
  });

  it('trap 21: applies the final mask after every step, although momentum would revive masked triplets', async () => {
    const peft = attached();
    const snapshots: TrainingSnapshot[] = [];
    await trainToy(peft, {
      finalRatio: 0.5,
      saveEvery: 1,
      onSnapshot: (snapshot) => void snapshots.push(snapshot),
    });
    const final = snapshots.filter(({ step }) => step >= 24);
    expect(final.length).toBeGreaterThan(20);
    expect(new Set(final.map(({ adapter }) => liveOf(peft, adapter))).size).toBe(1);
    const { adapter, slots } = final[0] ?? expect.fail('no snapshot');
    const moving = Object.keys(activeAdapter(peft).layers).flatMap((path) => {
      const momentum = floats(tensorAt(tensorAt(slots, 'moment1'), `${path}.loraE`));
      return [...tensorAt(adapter, `${path}.mask`).data].filter((keep, rank) => keep === 0 && momentum[rank] !== 0);
    });
    expect(moving.length).toBeGreaterThan(0);
  });

  it.each([
    ['lora', {}],
    ['svd', { allocator: 'released', deltaT: 3 }],
    ['svd', { totalStep: 16, tinit: 2, tfinal: 4 }],
  ] as const)(
    'resumes from the middle of its schedule with the same result: %s, %o',
    async (parametrization, options) => {
      const snapshots: TrainingSnapshot[] = [];
      const whole = await trainToy(attached({ parametrization, ...options }), {
        epochs: 5,
        saveEvery: 4,
        onSnapshot: (snapshot) => void snapshots.push(snapshot),
      });
      expect(snapshots.map(({ step }) => step)).toEqual([4, 8, 12, 16]);
      for (const resume of snapshots) {
        const resumed = await trainToy(attached({ parametrization, ...options }), { epochs: 5, resume });
        expect(resumed.last.values).toEqual(whole.last.values);
      }
    },
  );
});

describe('the importance after a step', () => {
  /** Returns a model after a few steps, so that E is not zero. */
  const started = async (): Promise<PeftModel<AdaloraConfig>> => {
    const peft = attached({ importance: 'sensitivity', orthRegWeight: 0.5 });
    await trainToy(peft, { epochs: 2 });
    return peft;
  };

  /** Returns the values after the first of two steps, on the batch of `gradientsByTape`. */
  const afterOneStep = async (peft: PeftModel, options: Partial<TrainOptions>): Promise<HostTensors> => {
    const snapshots: TrainingSnapshot[] = [];
    const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.push(snapshot);
    await trainToy(withAdapter(peft, {}), { epochs: 1, saveEvery: 1, onSnapshot, ...options }, toyTrainingData(1, 2));
    return snapshots[0]?.adapter ?? expect.fail('no snapshot');
  };

  it.each([null, 0.1])(
    "trap 20: uses the weights before the step and the step's gradient, with orthogonality term and clipping: %s",
    async (clipNorm) => {
      const peft = await started();
      const gradients = gradientsByTape(peft);
      const norm = Math.hypot(...Object.values(gradients).map((gradient) => Math.hypot(...gradient)));
      const factor = clipNorm === null ? 1 : Math.min(1, clipNorm / norm);
      const after = await afterOneStep(peft, { clipNorm });
      for (const path of Object.keys(activeAdapter(peft).layers)) {
        const raw = (name: string): number[] => {
          const gradient = gradients[`${path}.${name}`] ?? expect.fail(`no gradient of ${name}`);
          const weight = floats(tensorAt(activeAdapter(peft).values, `${path}.${name}`));
          return Array.from(gradient, (value, index) => Math.abs(factor * value * (weight[index] as number)));
        };
        const [ofA, ofE, ofB] = [raw('loraA'), raw('loraE'), raw('loraB')];
        const mean = (values: readonly number[]): number =>
          values.reduce((sum, value) => sum + value, 0) / values.length;
        const expected = ofE.map((value, rank) => {
          const width = ofB.length / 4;
          return (
            value +
            mean(ofA.filter((_, index) => index % 4 === rank)) +
            mean(ofB.slice(rank * width, (rank + 1) * width))
          );
        });
        expect(relativeDistance(tensorAt(after, `${path}.importance`).data, expected), path).toBeLessThan(1e-4);
      }
    },
  );
});

describe('an adapter with fully pruned modules', () => {
  /** Returns a trained adapter with no triplet left in two modules and one in a third. */
  const withBareModules = async (options: Partial<AdaloraConfig> = {}): Promise<PeftModel<AdaloraConfig>> => {
    const peft = attached({ loraAlpha: 6, ...options });
    await trainToy(peft);
    const values = { ...activeAdapter(peft).values };
    const keep = (path: string, ranks: readonly number[]): void => {
      for (const key of [`${path}.loraE`, `${path}.mask`]) {
        const old = values[key];
        if (old) {
          const kept = floats(old).map((value, rank) => (ranks.includes(rank) ? value || 1 : 0));
          values[key] = hostTensor(kept, old.shape);
        }
      }
    };
    keep('encoder.layer.0.attention.query', []);
    keep('encoder.layer.1.ffn.in', []);
    keep('encoder.layer.1.ffn.out', [2]);
    return withAdapter(peft, { values });
  };

  it.each(['svd', 'lora'] as const)(
    'trap 22: has the same logits when saved and loaded, with the scaling of the initial rank, and merged; can be trained further: %s',
    async (parametrization) => {
      const peft = await withBareModules({ parametrization });
      const ranks = activeRanks(activeAdapter(peft).layers, activeAdapter(peft).values);
      expect(ranks['encoder.layer.0.attention.query']).toBe(0);
      expect(ranks['encoder.layer.1.ffn.out']).toBe(1);
      for (const pruned of [true, false]) {
        const storage = memoryStorage();
        await savePretrained(peft, 'adapter', { storage, pruned });
        const again = await loadPretrained(peft.model, 'adapter', { methods: [adalora], storage });
        expect(relativeDistance(await toyOutputs(again), await toyOutputs(peft))).toBeLessThan(1e-5);
      }
      expect(relativeDistance(await toyOutputs(mergeAndUnload(peft)), await toyOutputs(peft))).toBeLessThan(1e-5);
      const { last } = await trainToy(peft, { epochs: 2 });
      expect(Object.values(last.ranks).reduce((sum, rank) => sum + rank, 0)).toBeGreaterThan(0);
    },
  );
});
