import * as tf from '@tensorflow/tfjs';
import { describe, expect, it } from 'vitest';
import { attach } from '../adapter/attach.js';
import { countParameters, storedParameters } from '../adapter/accounting.js';
import { loadPretrained, savePretrained, ADAPTER_CONFIG, ADAPTER_WEIGHTS } from '../files/checkpoint.js';
import { mergeAndUnload } from '../adapter/merge.js';
import { allLayers, withAdapter, type PeftModel } from '../adapter/peft-model.js';
import { ConfigError, CheckpointError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { CallableMethod } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { memoryStorage } from '../storage.js';
import type { TargetConfig } from '../adapter/targets.js';
import { mapValues } from '../records.js';
import { floats, type HostTensor, type HostTensors } from '../tensors.js';
import { predict } from '../train/evaluate.js';
import type { TrainOptions } from '../train/options.js';
import type { TrainingSnapshot } from '../train/snapshot.js';
import { readSnapshot, writeSnapshot } from '../train/snapshot.js';
import { train } from '../train/trainer.js';
import { relativeDistance } from './closeness.js';
import { gradientsByDifferences, gradientsByTape } from './gradients.js';
import { referenceExecutor } from './reference-executor.js';
import { toyEvaluationData, toyModel, toyTrainingData } from './toy-model.js';

/** What the conformance suite needs to know of a method. */
export interface ConformanceOptions<C extends TargetConfig> {
  /** Named configurations to run everything with. */
  readonly configs: Readonly<Record<string, Partial<C>>>;
  /** Names of configurations that change the output before training, of a method that by default does not. */
  readonly randomAtInit?: readonly string[];
  /** Options that must be refused, and the field the error must name. */
  readonly invalid: readonly { readonly options: Record<string, unknown>; readonly field: string }[];
  /** Learning rate at which the toy task is learnt. Default 0.02. */
  readonly learningRate?: number;
  /** Default: TensorFlow.js's own JavaScript backend. */
  readonly executor?: () => Promise<Executor>;
}

/** Registers the tests that every method must pass, once for each of its configurations. */
export function testMethod<C extends TargetConfig>(method: CallableMethod<C>, options: ConformanceOptions<C>): void {
  describe(`conformance of ${method.name}`, () => {
    testConfiguration(method, options);
    for (const [name, config] of Object.entries(options.configs)) {
      describe(name, () => {
        const suite = { method, config, identityAtInit: isIdentity(method, name, options), ...options };
        testInitialState(suite);
        testTraining(suite);
        testFiles(suite);
        testBudget(suite);
      });
    }
  });
}

type Suite<C extends TargetConfig> = ConformanceOptions<C> & {
  readonly method: CallableMethod<C>;
  readonly config: Partial<C>;
  readonly identityAtInit: boolean;
};

function isIdentity<C extends TargetConfig>(
  method: CallableMethod<C>,
  name: string,
  { randomAtInit = [] }: ConformanceOptions<C>,
): boolean {
  return method.capabilities.identityAtInit && !randomAtInit.includes(name);
}

const OUTPUT_TOLERANCE = 1e-5;

function testConfiguration<C extends TargetConfig>(
  method: CallableMethod<C>,
  { invalid }: ConformanceOptions<C>,
): void {
  it('fills in defaults, and its configuration survives JSON', () => {
    const parsed = method.parseConfig({});
    expect(method.parseConfig(JSON.parse(JSON.stringify(parsed)))).toEqual(parsed);
  });
  it.each(invalid.map(({ options, field }) => [JSON.stringify(options), options, field] as const))(
    'refuses %s',
    (_, options, field) => {
      expect(() => method.parseConfig(options)).toThrow(
        expect.objectContaining({ code: new ConfigError('').code, path: field }),
      );
    },
  );
}

function testInitialState<C extends TargetConfig>({ method, config, executor, identityAtInit }: Suite<C>): void {
  it(
    identityAtInit ? 'leaves the output unchanged before training' : 'changes the output before training',
    async () => {
      const peft = attach(toyModel(), method(config), { seed: 3 });
      const bare = withAdapter(peft, { layers: {} });
      const distance = await outputDistance(peft, bare, await (executor ?? referenceExecutor)());
      if (identityAtInit) expect(distance).toBeLessThan(OUTPUT_TOLERANCE);
      else expect(distance).toBeGreaterThan(1e-3);
    },
  );
  it('starts the same from the same seed and differently from another', () => {
    const values = (seed: number): HostTensors => attach(toyModel(), method(config), { seed }).adapter.values;
    expect(values(3)).toEqual(values(3));
    expect(values(3)).not.toEqual(values(4));
  });
  it('has the gradients that finite differences give', async () => {
    const executor = await referenceExecutor();
    const peft = attach(toyModel(), method(config), { seed: 3 });
    await train(peft, toyTrainingData(), { executor, epochs: 2, learningRate: 0.05 });
    const byTape = gradientsByTape(peft);
    const byDifferences = gradientsByDifferences(peft, 4);
    for (const [name, { index, value }] of byDifferences.map((probe) => [probe.name, probe] as const)) {
      const exact = byTape[name]?.[index] ?? NaN;
      expect(Math.abs(exact - value), `${name}[${index}]`).toBeLessThan(2e-3 * Math.max(1, Math.abs(value)));
    }
  });
}

function testTraining<C extends TargetConfig>(suite: Suite<C>): void {
  const { method, config } = suite;
  it('trains every tensor it declares and nothing of the base', async () => {
    const model = toyModel();
    const before = JSON.stringify(checksums(model.weights));
    const peft = attach(model, method(config), { seed: 3 });
    const start = peft.adapter.values;
    const { last } = await trainToy(peft, suite, { epochs: 2 });
    expect(JSON.stringify(checksums(model.weights))).toBe(before);
    for (const layer of Object.values(allLayers(peft.adapter))) {
      for (const [name, { trainable }] of Object.entries(layer.params)) {
        const key = `${layer.site.path}.${name}`;
        const moved = relativeDistance(valueAt(last.values, key), valueAt(start, key)) > 0;
        expect(moved, key).toBe(trainable);
      }
    }
  });
  it('learns the toy task', async () => {
    const losses: number[] = [];
    const peft = attach(toyModel(), method(config), { seed: 3 });
    await trainToy(peft, suite, { epochs: 12, onStep: ({ objective }) => losses.push(objective) });
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(losses.slice(-4))).toBeLessThan(0.8 * mean(losses.slice(0, 4)));
  });
  it('gives the same numbers twice', async () => {
    const run = async (): Promise<HostTensors> => {
      const peft = attach(toyModel(), method(config), { seed: 3 });
      return (await trainToy(peft, suite, { epochs: 3 })).last.values;
    };
    expect(await run()).toEqual(await run());
  });
  it('goes on from a snapshot to the same end', async () => {
    const snapshots: TrainingSnapshot[] = [];
    const peft = (): PeftModel => attach(toyModel(), method(config), { seed: 3 });
    const options = { epochs: 4, selection: { data: toyEvaluationData() } };
    const whole = await trainToy(peft(), suite, {
      ...options,
      snapshotEvery: 7,
      onSnapshot: (at) => void snapshots.push(at),
    });
    expect(snapshots.map(({ step }) => step)).toEqual([7, 14]);
    for (const at of snapshots) {
      const resume = await readSnapshot(writeSnapshot(at));
      const resumed = await trainToy(peft(), suite, { ...options, resume });
      expect(resumed.last.values).toEqual(whole.last.values);
      expect(resumed.selected.values).toEqual(whole.selected.values);
      expect(resumed.meanParameters).toBe(whole.meanParameters);
    }
  });
  it('leaks no tensor over 30 steps', async () => {
    const executor = await referenceExecutor();
    const counts: number[] = [];
    const peft = attach(toyModel(), method(config), { seed: 3 });
    await train(peft, toyTrainingData(), {
      executor,
      epochs: 8,
      learningRate: 0.01,
      onStep: () => counts.push(tf.memory().numTensors),
    });
    expect(new Set(counts.slice(1)).size).toBe(1);
  });
}

function testFiles<C extends TargetConfig>(suite: Suite<C>): void {
  const { method, config, executor } = suite;
  const merging = method.capabilities.mergeable ? '' : ` (skipped: ${method.name} is more than a change of weights)`;
  it.skipIf(!method.capabilities.mergeable)(`gives the same output merged${merging}`, async () => {
    const peft = attach(toyModel(), method(config), { seed: 3 });
    await trainToy(peft, suite, { epochs: 4 });
    expect(await outputDistance(mergeAndUnload(peft), peft, await (executor ?? referenceExecutor)())).toBeLessThan(
      OUTPUT_TOLERANCE,
    );
  });
  it.each([true, false])('gives the same output saved and loaded (pruned: %s)', async (pruned) => {
    const { peft, storage } = await saved(suite, pruned);
    const again = await loadPretrained(toyModel(), 'adapter', { methods: [method], storage });
    expect(await outputDistance(again, peft, await (executor ?? referenceExecutor)())).toBeLessThan(OUTPUT_TOLERANCE);
    expect(countParameters(again).stored).toBe(countParameters(peft).stored);
  });
  it('refuses a broken adapter with one clear error', async () => {
    const { storage } = await saved(suite, true);
    const load = (): Promise<PeftModel> => loadPretrained(toyModel(), 'adapter', { methods: [method], storage });
    const weights = await storage.read(`adapter/${ADAPTER_WEIGHTS}`);
    await storage.write(`adapter/${ADAPTER_WEIGHTS}`, weights.subarray(0, weights.length - 3));
    await expect(load()).rejects.toThrow(CheckpointError);
    await storage.write(`adapter/${ADAPTER_WEIGHTS}`, weights);
    await storage.write(`adapter/${ADAPTER_CONFIG}`, new TextEncoder().encode('{"peft_type": "NO_SUCH"}'));
    await expect(load()).rejects.toThrow(/NO_SUCH/);
  });
}

function testBudget<C extends TargetConfig>(suite: Suite<C>): void {
  const { method, config } = suite;
  const fitBudget = method.fitBudget;
  if (!fitBudget) {
    it.skip(`stores the budget it is fitted to (skipped: ${method.name} takes no budget)`);
    return;
  }
  it('stores the budget it is fitted to', async () => {
    const model = toyModel();
    const { targets } = attach(model, method(config)).adapter;
    const unit = targets.matched.reduce((sum, site) => sum + site.inFeatures + site.outFeatures, 0);
    for (const budget of [unit, 2 * unit]) {
      const fitted = fitBudget(targets.matched, budget, method.parseConfig(config));
      const peft = attach(model, method(fitted), { seed: 3 });
      const { last } = await trainToy(peft, suite, { epochs: 10 });
      const stored = storedParameters(last.layers, last.values);
      expect(stored / budget).toBeGreaterThan(0.9); // a toy rank is up to a tenth of the budget
      expect(stored).toBeLessThanOrEqual(budget);
    }
  });
}

function valueAt(values: HostTensors, key: string): Float32Array {
  return floats(values[key] as HostTensor, key);
}

async function saved<C extends TargetConfig>(suite: Suite<C>, pruned: boolean) {
  const peft = attach(toyModel(), suite.method(suite.config), { seed: 3 });
  await trainToy(peft, suite, { epochs: 4 });
  const storage = memoryStorage();
  await savePretrained(peft, 'adapter', { storage, pruned });
  return { peft, storage };
}

async function trainToy<C extends TargetConfig>(
  peft: PeftModel,
  { executor, learningRate = 0.02 }: Suite<C>,
  options: Partial<TrainOptions> & Pick<TrainOptions, 'epochs'>,
) {
  return train(peft, toyTrainingData(), {
    executor: await (executor ?? referenceExecutor)(),
    learningRate,
    ...options,
  });
}

async function outputDistance(a: PeftModel | Model, b: PeftModel | Model, executor: Executor): Promise<number> {
  const { batches } = toyEvaluationData();
  const outputs = async (peft: PeftModel | Model): Promise<number[]> =>
    (await predict(peft, batches, executor)).flatMap((row) => [...row]);
  return relativeDistance(await outputs(a), await outputs(b));
}

function checksums(weights: Model['weights']): Record<string, number> {
  return mapValues(weights, (weight) => floats(weight).reduce((sum, value, index) => sum + value * (index + 1), 0));
}
