import {
  activeAdapter,
  adamW,
  loadPretrained,
  memoryStorage,
  mergeAndUnload,
  savePretrained,
  withAdapter,
  type EvaluationData,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { tensorAt, type HostTensors } from '@peftjs/core/method';
import { storedParameters } from '@peftjs/core/model';
import type { StepEvent, TrainingSnapshot } from '@peftjs/core/runtime';
import { gradientsByTape, relativeDistance, toyEvaluationData, toyOutputs, toyTrainingData } from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';
import { attached, reconfigured, trainToy, valuesNamed } from './harness.js';

/** A trained model, with B no longer zero and every gate live. */
const started = async (options: Partial<SoraConfig> = {}): Promise<PeftModel<SoraConfig>> => {
  const peft = attached({ sparseLambda: 0, ...options });
  await trainToy(peft, { epochs: 2 });
  return peft;
};

/** The state after the first of two steps. */
const afterOneStep = async (
  peft: PeftModel<SoraConfig>,
  options: Partial<TrainOptions> = {},
): Promise<TrainingSnapshot> => {
  const snapshots: TrainingSnapshot[] = [];
  const onSnapshot = (snapshot: TrainingSnapshot): void => void snapshots.push(snapshot);
  await trainToy(reconfigured(peft, {}), { epochs: 1, saveEvery: 1, onSnapshot, ...options }, toyTrainingData(1, 2));
  return snapshots[0] ?? expect.fail('no snapshot');
};

const without = (values: HostTensors, name: string): HostTensors =>
  Object.fromEntries(Object.entries(values).filter(([key]) => !key.endsWith(`.${name}`)));
const flat = (record: Record<string, number[]>): number[] => Object.values(record).flat();
const norm = (values: readonly number[]): number => Math.hypot(...values);
const total = (ranks: Readonly<Record<string, number>>): number =>
  Object.values(ranks).reduce((sum, rank) => sum + rank, 0);

describe('a step', () => {
  it('trap 6: shrinks gates after the optimizer and leaves A, B and the head bitwise the same as without it', async () => {
    const peft = await started();
    const plain = await afterOneStep(peft, { optimizer: adamW({ weightDecay: 0.1 }) });
    const shrunk = await afterOneStep(reconfigured(peft, { sparseLambda: 20 }), {
      optimizer: adamW({ weightDecay: 0.1 }),
    });
    expect(without(shrunk.adapter, 'gate')).toEqual(without(plain.adapter, 'gate'));
    const threshold = Math.fround(20 * 0.02);
    const [before, after] = [flat(valuesNamed(plain.adapter, 'gate')), flat(valuesNamed(shrunk.adapter, 'gate'))];
    after.forEach((gate, index) => {
      const proposed = before[index] as number;
      expect(gate).toBeCloseTo(Math.sign(proposed) * Math.max(Math.abs(proposed) - threshold, 0), 6);
      expect(Object.is(gate, -0)).toBe(false);
    });
    expect(after.filter((gate) => gate === 0).length).toBeGreaterThan(3);
  });

  it('trap 6: decays A and B but no gate', async () => {
    const peft = await started({ sparseLambda: 2 });
    const [plain, decayed] = [
      await afterOneStep(peft),
      await afterOneStep(peft, { optimizer: adamW({ weightDecay: 0.5 }) }),
    ];
    expect(valuesNamed(decayed.adapter, 'gate')).toEqual(valuesNamed(plain.adapter, 'gate'));
    expect(valuesNamed(decayed.adapter, 'loraA')).not.toEqual(valuesNamed(plain.adapter, 'loraA'));
    expect(valuesNamed(decayed.adapter, 'loraB')).not.toEqual(valuesNamed(plain.adapter, 'loraB'));
  });

  it("trap 4: puts no part of lambda in the gates' gradient, only the L1 term if configured", async () => {
    const peft = await started();
    const gradientsWith = (options: Partial<SoraConfig>): Record<string, Float32Array> =>
      gradientsByTape(withAdapter(attached(options), { values: activeAdapter(peft).values }));
    const gradients = gradientsWith({ sparseLambda: 0 });
    expect(gradientsWith({ sparseLambda: 50 })).toEqual(gradients);
    const withTerm = gradientsWith({ sparseLambda: 50, l1Weight: 8 });
    for (const [path, gate] of Object.entries(valuesNamed(activeAdapter(peft).values, 'gate'))) {
      const [own, sum] = [tensorAt(gradients, `${path}.gate`), tensorAt(withTerm, `${path}.gate`)];
      gate.forEach((value, rank) => {
        expect((sum[rank] as number) - (own[rank] as number)).toBeCloseTo((8 / 40) * Math.sign(value), 5);
      });
    }
  });

  it('trap 8: leaves no rank of B at zero and shrinks gates by exactly the threshold if it is the first', async () => {
    const peft = attached({ sparseLambda: 0.5 });
    const { adapter } = await afterOneStep(peft);
    const start = flat(valuesNamed(activeAdapter(peft).values, 'gate'));
    const gates = flat(valuesNamed(adapter, 'gate'));
    expect(start.every((gate) => gate !== 0)).toBe(true);
    gates.forEach((gate, index) => {
      const before = start[index] as number;
      expect(gate).toBeCloseTo(Math.sign(before) * Math.max(Math.abs(before) - 0.01, 0), 6);
    });
    for (const [path, loraB] of Object.entries(valuesNamed(adapter, 'loraB'))) {
      const width = loraB.length / 4;
      for (let rank = 0; rank < 4; rank++) {
        expect(norm(loraB.slice(rank * width, (rank + 1) * width)), `${path} ${rank}`).toBeGreaterThan(0);
      }
    }
  });
});

describe('the group of the gates', () => {
  it('has a learning rate of its own, which the threshold follows', async () => {
    const peft = await started();
    const events: StepEvent[] = [];
    const options = { clipNorm: null, learningRate: 1e-3, learningRates: { gate: 0.05 }, warmupRatio: 0 };
    const { adapter } = await afterOneStep(peft, options);
    const moved = (name: string): number[] => {
      const before = flat(valuesNamed(activeAdapter(peft).values, name));
      return flat(valuesNamed(adapter, name)).map((value, index) => Math.abs(value - (before[index] as number)));
    };
    // Adam's first step equals the learning rate, except where the gradient is nearly zero.
    expect(Math.max(...moved('gate'))).toBeCloseTo(0.05, 5);
    expect(Math.max(...moved('loraA'))).toBeCloseTo(1e-3, 5);
    const sparse = reconfigured(peft, { sparseLambda: 0.5 });
    await afterOneStep(sparse, { ...options, onStep: (event) => events.push(event) });
    expect(events.map(({ scalars }) => scalars.threshold)).toEqual([0.025, 0.0125]);
  });

  it('trap 14: counts in the clip norm, as in the released code, unless excluded', async () => {
    const peft = await started({ l1Weight: 100 }); // so that the gates' gradients are most of the norm
    // The first moment is a tenth of the clipped gradient.
    const clipped = async (options: Partial<TrainOptions>) => {
      const { moment1 = {} } = (await afterOneStep(peft, options)).slots;
      const gates = flat(valuesNamed(moment1, 'gate')).map((value) => 10 * value);
      const rest = Object.values(without(moment1, 'gate')).flatMap(({ data }) => [...data].map((value) => 10 * value));
      return { gates, rest };
    };
    const raw = await clipped({ clipNorm: null });
    const [inside, outside] = [
      await clipped({ clipNorm: 0.1 }),
      await clipped({ clipNorm: 0.1, unclippedGroups: ['gate'] }),
    ];
    expect(norm(raw.gates)).toBeGreaterThan(10 * norm(raw.rest));

    const all = norm([...raw.gates, ...raw.rest]);
    expect(norm([...inside.gates, ...inside.rest])).toBeCloseTo(0.1, 5);
    expect(norm(inside.rest)).toBeCloseTo((0.1 / all) * norm(raw.rest), 6);

    expect(outside.gates).toEqual(raw.gates);
    expect(norm(outside.rest)).toBeCloseTo(0.1, 5);
  });
});

describe('dropout', () => {
  it('acts in training', async () => {
    const values = async (loraDropout: number): Promise<HostTensors> =>
      (await trainToy(attached({ loraDropout }), { epochs: 2 })).last.values;
    expect(await values(0.4)).not.toEqual(await values(0));
  });
});

describe('training', () => {
  it('ends within 1 % of the budget, with exact zeros', async () => {
    const budget = 600;
    const peft = attached({ r: 6, budget });
    const thresholds: number[] = [];
    await trainToy(peft, { epochs: 20, onStep: ({ scalars }) => thresholds.push(scalars.threshold ?? NaN) });
    const { layers, values } = activeAdapter(peft);
    const stored = storedParameters(layers, values);
    expect(stored).toBeLessThanOrEqual(budget);
    expect(stored).toBeGreaterThanOrEqual(0.99 * budget);
    const gates = flat(valuesNamed(values, 'gate'));
    expect(gates.some((gate) => gate === 0)).toBe(true);
    expect(gates.some((gate) => Object.is(gate, -0))).toBe(false);
    expect(Math.max(...thresholds)).toBeGreaterThan(0);
  });

  it('keeps gates large enough to act, in a short run of the choosing variant', async () => {
    // Equal gates that a threshold shrinks together are close to zero once enough are pruned, and have no time to grow
    // again.
    const medianGate = async (options: Partial<SoraConfig>): Promise<number> => {
      const peft = attached({ r: 6, budget: 600, ...options });
      await trainToy(peft, { epochs: 12, learningRate: 2e-3 });
      const sizes = flat(valuesNamed(activeAdapter(peft).values, 'gate')).map(Math.abs);
      const kept = sizes.filter((size) => size > 0).sort((a, b) => a - b);
      return kept[Math.floor(kept.length / 2)] as number;
    };
    expect(await medianGate({ variant: 'paper', gateInit: 'ones' })).toBeLessThan(0.1);
    expect(await medianGate({})).toBeGreaterThan(0.5);
  });

  it('prunes without a budget, and more with a larger lambda', async () => {
    const liveAfter = async (sparseLambda: number): Promise<number> => {
      const peft = attached({ r: 6, sparseLambda });
      await trainToy(peft, { epochs: 20 });
      return storedParameters(activeAdapter(peft).layers, activeAdapter(peft).values);
    };
    const [none, some, most] = [await liveAfter(0), await liveAfter(0.5), await liveAfter(4)];
    expect(some).toBeLessThan(none);
    expect(most).toBeLessThan(some);
  });

  it('trap 10: merges to the same network, without dropout', async () => {
    const peft = attached({ sparseLambda: 1, loraDropout: 0.3 });
    await trainToy(peft, { epochs: 20 });
    const [adapted, frozen] = [await toyOutputs(peft), await toyOutputs(peft.model)];
    expect(relativeDistance(frozen, adapted)).toBeGreaterThan(0.1);
    expect(relativeDistance(await toyOutputs(mergeAndUnload(peft)), adapted)).toBeLessThan(1e-5);
  });

  it('trap 7: keeps updating A and B of pruned ranks, and still prunes to the same outputs', async () => {
    const peft = attached({ sparseLambda: 3 });
    await trainToy(peft, { epochs: 12, optimizer: adamW({ weightDecay: 0.1 }) });
    const before = activeAdapter(peft).values;
    for (let round = 0; round < 2; round++) {
      const storage = memoryStorage();
      await savePretrained(peft, 'adapter', { storage });
      const pruned = await loadPretrained(peft.model, 'adapter', { methods: [sora], storage });
      expect(relativeDistance(await toyOutputs(pruned), await toyOutputs(peft))).toBeLessThan(1e-5);
      await trainToy(peft, { epochs: 2, optimizer: adamW({ weightDecay: 0.1 }) });
    }
    const gates = valuesNamed(activeAdapter(peft).values, 'gate');
    const dead = Object.entries(valuesNamed(before, 'gate')).flatMap(([path, values]) =>
      values.flatMap((gate, rank) => (gate === 0 && gates[path]?.[rank] === 0 ? [{ path, rank }] : [])),
    );
    expect(dead.length).toBeGreaterThan(3);
    for (const { path, rank } of dead) {
      const key = `${path}.loraA`;
      expect(tensorAt(activeAdapter(peft).values, key).data[rank]).not.toBe(tensorAt(before, key).data[rank]);
    }
  });

  it('trap 13: a constant threshold collapses the ranks while the rate decays, so the two modes end differently', async () => {
    const ends = async (options: Partial<SoraConfig>) => {
      let judged = 0;
      const data: EvaluationData = { ...toyEvaluationData(), score: () => ({ accuracy: 1 - 0.1 * judged++ }) };
      const peft = attached({ r: 6, ...options });
      const result = await trainToy(peft, {
        epochs: 20,
        finalRatio: 0.6,
        selection: { data, evaluations: 4 },
      });
      return { peft, ...result };
    };
    const xi = 0.6 * 0.02; // 0.6 of the peak rate: the rate is lower in the last 60 % of the steps
    const { selected, last, peft } = await ends({ thresholdMode: 'constant', sparseLambda: xi });
    expect(selected.step).toBeLessThan(last.step);
    expect(total(selected.ranks)).toBeGreaterThan(1.5 * total(last.ranks));
    expect(selected.storedParameters).toBeGreaterThan(1.5 * last.storedParameters);
    expect(storedParameters(activeAdapter(peft).layers, activeAdapter(peft).values)).toBe(selected.storedParameters);

    const decaying = await ends({ thresholdMode: 'lr', sparseLambda: 0.6 });
    expect(total(decaying.last.ranks)).toBeGreaterThan(1.5 * total(last.ranks));
    expect(total(decaying.last.ranks)).toBeGreaterThan(0.8 * total(decaying.selected.ranks));
  });
});
