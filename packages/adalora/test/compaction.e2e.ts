import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import {
  activeAdapter,
  activeRanks,
  loadPretrained,
  memoryStorage,
  savePretrained,
  withAdapter,
  type Executor,
  type PeftModel,
  type TrainOptions,
} from '@peftjs/core';
import { hostZeros, mapValues, tensorAt, type AdapterLayers, type HostTensors } from '@peftjs/core/method';
import { allocatedRanks, keepRanks } from '@peftjs/core/ranks';
import { storedParameters, tensorKey } from '@peftjs/core/model';
import { nonZeroIndices } from '@peftjs/core/linalg';
import { readSnapshot, writeSnapshot, type TrainingSnapshot } from '@peftjs/core/runtime';
import { contextOf, layerOf, referenceExecutor, relativeDistance, toyOutputs } from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { attached, snapshotsOf, trainToy } from './harness.js';

/** Ten modules of rank 4, with ten ranks kept after step 8 of 24: some modules keep none. */
const sparse: Partial<AdaloraConfig> = { initR: 4, targetR: 1, tfinal: 16 };
const run: Partial<TrainOptions> = { epochs: 6, clipNorm: null };
const [last, end] = [8, 24];

const parametrizations = ['svd', 'lora'] as const;
/** The options of each parametrization for a run without the orthogonality term. */
const variants: readonly Partial<AdaloraConfig>[] = [
  { orthRegWeight: 0 },
  { orthRegWeight: 0, loraDropout: 0.2, allocator: 'released' },
  { orthRegWeight: 0, importance: 'magnitude', budgetUnit: 'parameters' },
  { parametrization: 'lora' },
  { parametrization: 'lora', importance: 'sensitivity', loraDropout: 0.2 },
];

const at = (snapshots: Map<number, TrainingSnapshot>, step: number): TrainingSnapshot =>
  snapshots.get(step) ?? expect.fail(`no snapshot of step ${step}`);

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const heldOf = (peft: PeftModel): Record<string, number> => mapValues(activeAdapter(peft).layers, allocatedRanks);

/** Returns the tensors of full layers, reduced to the ranks that their masks keep. */
const cut = (layers: AdapterLayers, tensors: HostTensors, masks: HostTensors): HostTensors => {
  const kept = Object.keys(layers).map((path) => [path, nonZeroIndices(tensorAt(masks, `${path}.mask`))] as const);
  const left = { ...tensors };
  for (const [path, { layer, carry }] of Object.entries(keepRanks(layers, Object.fromEntries(kept)))) {
    for (const name of Object.keys({ ...layers[path]?.params, ...layers[path]?.state })) {
      const tensor = tensors[tensorKey(layer, name)];
      Reflect.deleteProperty(left, tensorKey(layer, name));
      const carried = tensor && carry(name, tensor, 'value');
      if (carried && allocatedRanks(layer) > 0) left[tensorKey(layer, name)] = carried;
    }
  }
  return left;
};

/** Expects the same tensors, equal up to rounding. */
const expectEqual = (actual: HostTensors, expected: HostTensors, tolerance: number): void => {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, { shape, data }] of Object.entries(expected)) {
    expect(actual[name]?.shape, name).toEqual(shape);
    expect(relativeDistance(actual[name]?.data ?? [], data), name).toBeLessThanOrEqual(tolerance);
  }
};

/** An executor that records the number of ranks of each step it compiles. */
const counting = async (): Promise<{ executor: Executor; ranks: number[] }> => {
  const reference = await referenceExecutor();
  const ranks: number[] = [];
  const executor: Executor = {
    ...reference,
    compile(fn, inputs) {
      const names = Object.keys(inputs).filter((name) => name.startsWith('adapter/') && name.endsWith('.mask'));
      ranks.push(sum(names.map((name) => Number(inputs[name]?.shape[0] ?? 0))));
      return reference.compile(fn, inputs);
    },
  };
  return { executor, ranks };
};

/** A run with compaction and one without, each with all of its snapshots. Two tests use them. */
const pairs = new Map<Partial<AdaloraConfig>, Promise<{ readonly compacted: Run; readonly whole: Run }>>();

interface Run {
  readonly peft: PeftModel<AdaloraConfig>;
  readonly snapshots: Map<number, TrainingSnapshot>;
  readonly stored: readonly number[];
}

function pairOf(variant: Partial<AdaloraConfig>): Promise<{ readonly compacted: Run; readonly whole: Run }> {
  const runOf = async (compact: boolean): Promise<Run> => {
    const peft = attached({ ...sparse, ...variant, compact });
    const stored: number[] = [];
    const onStep: TrainOptions['onStep'] = (event) => void stored.push(event.storedParameters);
    return { peft, snapshots: await snapshotsOf(peft, { ...run, onStep }), stored };
  };
  const trained = async () => ({ compacted: await runOf(true), whole: await runOf(false) });
  const pair = pairs.get(variant) ?? trained();
  pairs.set(variant, pair);
  return pair;
}

describe('compaction', () => {
  it.each(variants)(
    'removes masked ranks from tensors, scores and moments after the final mask: %o',
    async (variant) => {
      const pair = await pairOf(variant);
      const { peft } = pair.compacted;
      const [compacted, kept] = [pair.compacted.snapshots, pair.whole.snapshots];
      expect(at(compacted, last - 1).adapter).toEqual(at(kept, last - 1).adapter);
      const fresh = attached({ ...sparse, ...variant });
      const { layers } = activeAdapter(fresh);
      const { adapter: whole } = at(kept, last);
      const [left, before] = [at(compacted, last), at(kept, last)];
      expectEqual(left.adapter, cut(layers, whole, whole), 0);
      for (const slot of ['moment1', 'moment2']) {
        expectEqual(tensorAt(left.slots, slot), cut(layers, tensorAt(before.slots, slot), whole), 0);
      }
      const held = heldOf(peft);
      expect(Object.values(held)).toContain(0);
      expect(Math.max(...Object.values(held))).toBeGreaterThan(1);
      expect(activeRanks(layers, whole)).toEqual(held);
      const masked = withAdapter(fresh, { values: whole });
      const after = withAdapter(peft, { values: at(compacted, last).adapter });
      expect(relativeDistance(await toyOutputs(after), await toyOutputs(masked))).toBeLessThan(1e-6);
      expect(storedParameters(activeAdapter(peft).layers, activeAdapter(after).values)).toBe(
        storedParameters(layers, whole),
      );
    },
  );

  it.each(variants)('then continues like the full tensors, up to rounding: %o', async (variant) => {
    const pair = await pairOf(variant);
    const [{ peft }, { peft: whole }] = [pair.compacted, pair.whole];
    const { layers, values } = activeAdapter(whole);
    expectEqual(activeAdapter(peft).values, cut(layers, values, values), 1e-4);
    expect(relativeDistance(await toyOutputs(peft), await toyOutputs(whole))).toBeLessThan(1e-5);
    expect(pair.compacted.stored).toEqual(pair.whole.stored);
    expect(activeRanks(activeAdapter(peft).layers, activeAdapter(peft).values)).toEqual(activeRanks(layers, values));
  });

  it('continues differently with the orthogonality term, to which removed triplets contributed', async () => {
    const options = { ...sparse, orthRegWeight: 0.1 };
    const [peft, whole] = [attached({ ...options, compact: true }), attached(options)];
    await trainToy(peft, run);
    await trainToy(whole, run);
    const { layers, values } = activeAdapter(whole);
    const expected = cut(layers, values, values);
    expect(Object.keys(activeAdapter(peft).values).sort()).toEqual(Object.keys(expected).sort());
    const distances = Object.entries(heldOf(peft)).flatMap(([path, held]) =>
      held === 0
        ? []
        : [
            relativeDistance(
              tensorAt(activeAdapter(peft).values, `${path}.loraA`).data,
              tensorAt(expected, `${path}.loraA`).data,
            ),
          ],
    );
    expect(Math.min(...distances)).toBeGreaterThan(1e-3);
  });

  it.each(parametrizations)(
    'excludes removed ranks from the clip norm, to which only triplets contribute: %s',
    async (name) => {
      const options = { ...sparse, parametrization: name, orthRegWeight: 0 };
      const [peft, whole] = [attached({ ...options, compact: true }), attached(options)];
      await trainToy(peft, { ...run, clipNorm: 0.01, unclippedGroups: ['head'] });
      await trainToy(whole, { ...run, clipNorm: 0.01, unclippedGroups: ['head'] });
      const distance = relativeDistance(await toyOutputs(peft), await toyOutputs(whole));
      if (name === 'lora') expect(distance).toBeLessThan(1e-5);
      else expect(distance).toBeGreaterThan(1e-4);
    },
  );

  it('recompiles the step once, for the remaining ranks', async () => {
    const { executor, ranks } = await counting();
    await trainToy(attached({ ...sparse, compact: true }), { ...run, executor });
    expect(ranks).toEqual([40, 10]);
  });

  it('happens only if configured, and if some ranks are masked and some are left', async () => {
    for (const options of [{ ...sparse }, { ...sparse, targetR: 4, compact: true }]) {
      const { executor, ranks } = await counting();
      await trainToy(attached(options), { ...run, executor });
      expect(ranks).toEqual([40]);
    }
    const { layers, config } = activeAdapter(attached({ ...sparse, allocator: 'released', compact: true }));
    const controller = adalora.controller?.(layers, config, { totalSteps: end, warmupSteps: 0, finalSteps: 1 });
    const equal = Object.fromEntries((controller?.reads(last) ?? []).map((name) => [name, hostZeros([4])]));
    const { values, resized } = controller?.afterStep(last, equal) ?? expect.fail('no controller');
    expect(Object.values(values ?? {}).flatMap(({ data }) => nonZerosOf(data))).toEqual([]);
    expect(resized).toBeUndefined();
  });

  it.each(parametrizations)(
    'resumes from a snapshot with the same result, starting from the initial model: %s',
    async (name) => {
      const options = { ...sparse, parametrization: name, loraDropout: 0.2, compact: true };
      const peft = attached(options);
      const snapshots = await snapshotsOf(peft, { epochs: 6 });
      for (const step of [last - 1, last, last + 1, end - 1]) {
        const resume = await readSnapshot(writeSnapshot(at(snapshots, step)));
        const again = attached(options);
        await trainToy(again, { epochs: 6, resume });
        expect(activeAdapter(again).values).toEqual(activeAdapter(peft).values);
        expect(heldOf(again)).toEqual(heldOf(peft));
      }
      const uncompacted = activeAdapter(attached({ ...options, compact: false }));
      expect(adalora.resumedLayers?.({ ...uncompacted, values: {} })).toBe(uncompacted.layers);
      const smaller = attached({ ...options, initR: 1 });
      await expect(trainToy(smaller, { epochs: 6, resume: at(snapshots, last - 1) })).rejects.toThrow(
        expect.objectContaining({ code: 'PEFT_CHECKPOINT' }),
      );
    },
  );
});

const nonZerosOf = (data: ArrayLike<number>): number[] => Array.from(data).filter((value) => value !== 0);

describe('the orthogonality term of a smaller layer', () => {
  it('pushes a triplet away from present triplets, but no longer from removed ones', () => {
    const layer = layerOf(adalora, { initR: 2, targetR: 1, orthRegWeight: 0.25 }, [3, 3]);
    const { layer: smaller } = tensorAt(keepRanks({ m: layer }, { m: [0] }), 'm');
    const [live, removed] = [
      [0.5, 1, 0],
      [2, 1, -1],
    ] as const;
    const gradientOf = (of: typeof layer, columns: readonly (readonly number[])[]): number[] => {
      const loraA = tf.tensor2d([0, 1, 2].map((row) => columns.map((column) => column[row] as number)));
      const loraB = tf.zeros([columns.length, 3]);
      const loss = (a: tf.Tensor): tf.Scalar => of.loss?.({ loraA: a, loraB }, contextOf()) ?? expect.fail('no term');
      return [...tf.slice(tf.grad(loss)(loraA), [0, 0], [3, 1]).dataSync()];
    };
    const [whole, alone] = [gradientOf(layer, [live, removed]), gradientOf(smaller, [live])];
    const product = sum(live.map((value, row) => value * (removed[row] as number)));
    whole.forEach((value, row) => {
      const pull = 0.25 * 4 * product * (removed[row] as number);
      expect(value - (alone[row] as number)).toBeCloseTo(pull, 5);
    });
    expect(product).not.toBe(0);
  });
});

describe.each(parametrizations)('an adapter that has been compacted: %s', (parametrization) => {
  const trained = async (options: Partial<AdaloraConfig>): Promise<PeftModel<AdaloraConfig>> => {
    const peft = attached({ ...sparse, loraAlpha: 6, parametrization, compact: true, ...options });
    await trainToy(peft, { epochs: 6 });
    expect(Object.values(heldOf(peft))).toContain(0);
    return peft;
  };
  let once: Promise<PeftModel<AdaloraConfig>> | undefined;
  /** Trained once; every call returns a new model. */
  const compacted = async (): Promise<PeftModel<AdaloraConfig>> => withAdapter(await (once ??= trained({})), {});

  it('keeps the scaling of the initial rank, and a module without ranks changes nothing', async () => {
    const { layers } = activeAdapter(await compacted());
    const scaling = parametrization === 'svd' ? 6 / (4 + 1e-5) : 6 / 4;
    const { values } = activeAdapter(await compacted());
    for (const [path, layer] of Object.entries(layers)) {
      const names = ['loraA', 'loraE', 'loraB', 'mask'].filter((name) => `${path}.${name}` in values);
      const own = Object.fromEntries(names.map((name) => [name, tensorAt(values, `${path}.${name}`)]));
      const factors = layer.toLora?.(own) ?? expect.fail('toLora is missing');
      expect(factors.scaling).toBe(scaling);
      expect(factors.loraA.shape).toEqual([layer.site.inFeatures, allocatedRanks(layer)]);
      if (allocatedRanks(layer) > 0) continue;
      expect([layer.params, layer.rank?.({}), layer.storedParameters({})]).toEqual([{}, 0, 0]);
      expect(Object.keys(values).filter((name) => name.startsWith(`${path}.`))).toEqual([]);
    }
  });

  it("is saved in PEFT's format as the first ranks, and its unpruned file loads as the smaller adapter", async () => {
    const peft = await compacted();
    const adapter = activeAdapter(peft);
    const file = adalora.toFile(adapter, { pruned: false });
    expect(file.config).toMatchObject({ compact: true, init_r: 4 });
    const suffix = parametrization === 'svd' ? '.lora_E' : '.lora_A';
    for (const [path, held] of Object.entries(heldOf(peft))) {
      expect(file.config.rank_pattern).toHaveProperty(
        [path + suffix],
        [0, 1, 2, 3].map((rank) => rank < held),
      );
      expect(tensorAt(file.tensors, `${path}.lora_A`).shape[0]).toBe(held);
    }
    const { values, config } = adalora.fromFile(file);
    expect(adalora.parseConfig(config)).toEqual({ ...adapter.config, targetModules: Object.keys(adapter.layers) });
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage, pruned: false });
    const again = await loadPretrained(peft.model, 'adapter', { methods: [adalora], storage });
    expect(heldOf(again)).toEqual(heldOf(peft));
    const factors = Object.keys(values).filter((name) => !/smoothedSensitivity|uncertainty|importance/.test(name));
    for (const name of factors) expect(values[name], name).toEqual(adapter.values[name]);
    expect(factors.length).toBeGreaterThan(0);
  });

  it.each(['triplets', 'parameters'] as const)('continues training with its ranks and a budget in %s', async (unit) => {
    const peft = await trained({ budgetUnit: unit });
    const [held, stored] = [heldOf(peft), storedParameters(activeAdapter(peft).layers, activeAdapter(peft).values)];
    const { last: after } = await trainToy(peft, { epochs: 6 });
    expect(heldOf(peft)).toEqual(held);
    expect(after.storedParameters).toBe(stored);
    const storage = memoryStorage();
    await savePretrained(peft, 'adapter', { storage, pruned: false });
    const again = await loadPretrained(peft.model, 'adapter', { methods: [adalora], storage });
    const { last: loaded } = await trainToy(again, { epochs: 6 });
    expect(loaded.storedParameters).toBe(stored);
  });
});
