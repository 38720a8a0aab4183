import {
  activeAdapter,
  activeRanks,
  withAdapter,
  type Executor,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { tensorAt, type HostTensors } from '@peftjs/core/method';
import { storedParameters } from '@peftjs/core/model';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from '@peftjs/core/runtime';
import { referenceExecutor, relativeDistance, toyOutputs } from '@peftjs/conformance';
import { sora, type SoraConfig } from '@peftjs/sora';
import { describe, expect, it } from 'vitest';
import { attached, reconfigured, trainToy, valuesNamed } from './harness.js';

/** All snapshots of a run of 8 epochs (32 steps), by step. */
const snapshotsOf = async (
  peft: PeftModel<SoraConfig>,
  options: Partial<TrainOptions> = {},
): Promise<Map<number, TrainingSnapshot>> => {
  const snapshots = new Map<number, TrainingSnapshot>();
  await trainToy(peft, {
    saveEvery: 1,
    onSnapshot: (snapshot) => void snapshots.set(snapshot.step, snapshot),
    ...options,
  });
  return snapshots;
};

const at = (snapshots: Map<number, TrainingSnapshot>, step: number): TrainingSnapshot =>
  snapshots.get(step) ?? expect.fail(`no snapshot of step ${step}`);

/** The trained model at the time of a snapshot. */
const modelAt = (peft: PeftModel<SoraConfig>, values: HostTensors): PeftModel<SoraConfig> => {
  const adapter = activeAdapter(attached(activeAdapter(peft).config));
  return withAdapter(peft, { layers: sora.resumedLayers?.({ ...adapter, values }) ?? adapter.layers, values });
};

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
/** The number of values in all tensors except the head's. */
const sizeOf = (values: HostTensors): number =>
  sum(Object.entries(values).map(([name, { data }]) => (name.startsWith('classifier.') ? 0 : data.length)));
const liveGates = (values: HostTensors): number =>
  Object.values(valuesNamed(values, 'gate'))
    .flat()
    .filter((gate) => gate !== 0).length;

const dying = { r: 6, sparseLambda: 3, compactEvery: 8 };

describe('compaction', () => {
  it('removes pruned ranks and their moments from the tensors and keeps the outputs', async () => {
    const peft = attached(dying);
    const snapshots = await snapshotsOf(peft);
    const kept = await snapshotsOf(attached({ ...dying, compactEvery: null }));
    const [before, after] = [at(kept, 8), at(snapshots, 8)];
    expect(liveGates(after.adapter)).toBe(liveGates(before.adapter));
    expect(liveGates(before.adapter)).toBeLessThan(0.75 * 6 * 10);
    for (const gates of Object.values(valuesNamed(after.adapter, 'gate'))) expect(gates).not.toContain(0);

    const pathsOf = (values: HostTensors): string[] => Object.keys(values).filter((name) => name.endsWith('.gate'));
    for (const path of pathsOf(before.adapter).map((name) => name.slice(0, -'.gate'.length))) {
      const live = [...tensorAt(before.adapter, `${path}.gate`).data].flatMap((gate, rank) =>
        gate === 0 ? [] : [rank],
      );
      for (const kind of ['adapter', 'moment1', 'moment2']) {
        const [former, now] = [before, after].map(({ adapter, slots }) => tensorAt({ adapter, ...slots }, kind));
        const held = (name: string): number[] => [...tensorAt(former ?? {}, `${path}.${name}`).data];
        const columns = held('loraA').filter((_, index) => live.includes(index % 6)); // [in, 6]
        const width = held('loraB').length / 6;
        const rows = held('loraB').filter((_, index) => live.includes(Math.floor(index / width))); // [6, out]
        const left = (name: string): number[] => [...(now?.[`${path}.${name}`]?.data ?? [])];
        expect(left('loraA'), `${kind} ${path}`).toEqual(columns);
        expect(left('loraB')).toEqual(rows);
        expect(left('gate')).toEqual(held('gate').filter((_, rank) => live.includes(rank)));
      }
    }
    expect(sizeOf(after.adapter)).toBeLessThan(0.75 * sizeOf(before.adapter));

    const [whole, compacted] = [
      modelAt(reconfigured(peft, { compactEvery: null }), before.adapter),
      modelAt(peft, after.adapter),
    ];
    expect(relativeDistance(await toyOutputs(compacted), await toyOutputs(whole))).toBeLessThan(1e-5);
    expect(storedParameters(activeAdapter(compacted).layers, after.adapter)).toBe(
      storedParameters(activeAdapter(whole).layers, before.adapter),
    );
  });

  it('recompiles the step for the smaller tensors', async () => {
    const reference = await referenceExecutor();
    const gates: number[] = [];
    const executor: Executor = {
      ...reference,
      compile(fn, inputs) {
        const names = Object.keys(inputs).filter((name) => name.startsWith('adapter/') && name.endsWith('.gate'));
        gates.push(sum(names.map((name) => Number(inputs[name]?.shape[0] ?? 0))));
        return reference.compile(fn, inputs);
      },
    };
    const peft = attached(dying);
    await trainToy(peft, { executor });
    const { layers } = activeAdapter(peft);
    expect(gates.length).toBeGreaterThan(1);
    expect(gates[0]).toBe(6 * 10);
    expect(gates.at(-1)).toBe(sum(Object.values(layers).map(({ params }) => params.gate?.initial.shape[0] ?? 0)));
    gates.slice(1).forEach((count, index) => expect(count).toBeLessThan(0.75 * (gates[index] as number)));
  });

  it('keeps the tensors while less than a quarter of them is pruned, or without compactEvery', async () => {
    const held = (peft: PeftModel<SoraConfig>): number => sizeOf(activeAdapter(peft).values);
    const untouched = async (options: Partial<SoraConfig>): Promise<void> => {
      const peft = attached(options);
      const before = held(peft);
      await trainToy(peft);
      expect(held(peft)).toBe(before);
    };
    await untouched({ ...dying, sparseLambda: 0.1 });
    await untouched({ ...dying, compactEvery: null });
  });

  it('resumes from a snapshot of a compacted adapter with the same result, starting from the initial model', async () => {
    const peft = attached({ ...dying, loraDropout: 0.2 });
    const snapshots = await snapshotsOf(peft);
    for (const step of [7, 8, 9, 24, 31]) {
      const resume = await readSnapshot(writeSnapshot(at(snapshots, step)));
      const again = attached({ ...dying, loraDropout: 0.2 });
      await trainToy(again, { resume });
      expect(activeAdapter(again).values).toEqual(activeAdapter(peft).values);
      expect(activeRanks(activeAdapter(again).layers, activeAdapter(again).values)).toEqual(
        activeRanks(activeAdapter(peft).layers, activeAdapter(peft).values),
      );
    }
    const smaller = attached({ ...dying, r: 1, loraDropout: 0.2 });
    await expect(trainToy(smaller, { resume: at(snapshots, 7) })).rejects.toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT' }),
    );
  });

  it('happens once with a budget, after the ranks are chosen', async () => {
    const options = { r: 6, budget: 500, compactEvery: 1 };
    const peft = attached(options);
    const run = { epochs: 10, finalRatio: 0.5, clipNorm: null }; // the gradients of pruned gates count in the clip norm
    const snapshots = await snapshotsOf(peft, run);
    const sizes = [...snapshots.values()].map(({ adapter }) => sizeOf(adapter));
    expect(new Set(sizes.slice(0, 19)).size).toBe(1);
    expect(new Set(sizes.slice(19)).size).toBe(1);
    expect(sizes[19]).toBeLessThan(0.75 * (sizes[18] as number));
    const { layers, values } = activeAdapter(peft);
    expect(storedParameters(layers, values)).toBeLessThanOrEqual(500);
    expect(storedParameters(layers, values)).toBeGreaterThanOrEqual(0.99 * 500);
    const whole = attached({ ...options, compactEvery: null });
    await trainToy(whole, run);
    expect(relativeDistance(await toyOutputs(peft), await toyOutputs(whole))).toBeLessThan(1e-4);
  });
});

describe('an adapter that has lost every rank of some modules', () => {
  const heldOf = (peft: PeftModel<SoraConfig>): number[] =>
    Object.values(activeAdapter(peft).layers).map(({ params }) => params.gate?.initial.shape[0] ?? 0);

  it('can be trained further', async () => {
    const peft = attached({ r: 2, sparseLambda: 2.5, compactEvery: 4 });
    await trainToy(peft, { epochs: 20 });
    const before = heldOf(peft);
    expect(before).toContain(0);
    expect(sum(before)).toBeGreaterThan(0);
    await trainToy(peft, { epochs: 2 });
    heldOf(peft).forEach((count, index) => expect(count).toBeLessThanOrEqual(before[index] as number));
  });

  it('keeps its tensors when every rank is pruned, since a model without a head would have nothing to train', async () => {
    const peft = attached({ r: 2, sparseLambda: 400, compactEvery: 4 });
    const headless = { ...peft, model: { ...peft.model, head: [] } } as typeof peft;
    await trainToy(headless, { epochs: 8 });
    expect(liveGates(activeAdapter(headless).values)).toBe(0);
    expect(heldOf(headless)).not.toContain(0);
  });
});
