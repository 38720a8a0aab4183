import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { onWarning } from '../config.js';
import { activeAdapter, replaceAdapter, withAdapter } from '../adapter/peft-model.js';
import { attach, defineMethod } from '../adapter/attach.js';
import { fullLayer } from '../adapter/layers.js';
import { CheckpointError, ConfigError, TrainingError } from '../errors.js';
import type { Executor } from '../contracts/executor.js';
import type { PeftMethod, TargetConfig } from '../contracts/method.js';
import { farthestTensor, referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { wholeModules } from '../../test/whole-modules.js';
import { floats, hostTensor, mapValues, tensorAt } from '../tensors.js';
import type { EvaluationEvent, StepEvent, TrainOptions } from './options.js';
import type { TrainingSnapshot } from './snapshot.js';
import { adamW } from '../optimizers/adamw.js';
import { train } from './train.js';

let executor: Executor;
beforeAll(async () => {
  executor = await referenceExecutor();
});

const toy = (method: PeftMethod, config: Partial<TargetConfig> = { targetModules: ['query'] }) =>
  attach(toyModel(), defineMethod(method)(config), { seed: 1 });

const run = (peft: ReturnType<typeof toy>, options: Partial<TrainOptions> = {}) =>
  train(peft, toyTrainingData(), { executor, epochs: 3, learningRate: 0.01, ...options });

describe('train', () => {
  it('leaves a frozen head unchanged and trains the adapter', async () => {
    const method = defineMethod(wholeModules())({ targetModules: ['query'] });
    const peft = attach(toyModel(), method, { seed: 1, trainHead: false });
    const before = { ...activeAdapter(peft).values };
    await run(peft);
    const changed = Object.keys(before).filter(
      (name) => before[name]?.data.join() !== activeAdapter(peft).values[name]?.data.join(),
    );
    expect(changed.length).toBeGreaterThan(0);
    expect(changed.filter((name) => name.startsWith('classifier.'))).toEqual([]);
    expect(Object.keys(before).filter((name) => name.startsWith('classifier.'))).not.toEqual([]);
  });

  it('gives the controller the learning rates of all steps in advance', async () => {
    const [foretold, seen]: [number[], number[]] = [[], []];
    const peft = toy(
      wholeModules(({ totalSteps, learningRates }) => {
        for (let step = 1; step <= totalSteps; step++) foretold.push(learningRates?.(step).head ?? NaN);
        return {
          scalars(_, rates) {
            seen.push(rates.head ?? NaN);
            return {};
          },
        };
      }),
    );
    await run(peft, { learningRates: { head: 0.5 }, warmupRatio: 0.25 });
    expect(foretold).toEqual(seen);
    expect(seen.slice(0, 4)).toEqual([0.125, 0.25, 0.375, 0.5]);
  });

  it('warns of optimizer groups that the adapter does not have', async () => {
    const warnings: string[] = [];
    onTestFinished(onWarning((line) => warnings.push(line)));
    await run(toy(wholeModules()), { learningRates: { head: 0.1, heads: 0.1 }, unclippedGroups: ['gate', 'default'] });
    const ending = 'which whole does not have: it has no effect; the groups are default, head';
    expect(warnings).toEqual([
      `learningRates names the group 'heads' (did you mean 'head'?), ${ending}`,
      `unclippedGroups names the group 'gate', ${ending}`,
    ]);
  });

  it('warns of a rate for a group whose rate the method sets', async () => {
    const warnings: string[] = [];
    onTestFinished(onWarning((line) => warnings.push(line)));
    const adapter = toy(wholeModules());
    const { layers } = activeAdapter(adapter);
    const ruled = mapValues(layers, (layer) => ({
      ...layer,
      params: mapValues(layer.params, (param) => ({ ...param, group: 'gate', learningRate: 0.1 })),
    }));
    await run(withAdapter(adapter, { layers: ruled }), { learningRates: { gate: 0.2 } });
    expect(warnings).toEqual([
      "learningRates names the group 'gate', whose rate is an option of whole: it has no effect",
    ]);
  });

  it('restarts the optimizer when the controller asks for it, as in a new run', async () => {
    const constant = { schedule: 'constant', warmupRatio: 0 } as const;
    const restarting = wholeModules(() => ({
      reads: (step) => (step === 4 ? ['encoder.layer.0.attention.query.bias'] : []),
      afterStep: () => ({ restartsOptimizer: true }),
    }));
    const snapshots: TrainingSnapshot[] = [];
    const onSnapshot = (at: TrainingSnapshot): void => void snapshots.push(at);
    const { last } = await run(toy(restarting), { ...constant, epochs: 2, saveEvery: 6, onSnapshot });
    const inTwo = toy(wholeModules());
    await run(inTwo, { ...constant, epochs: 1 });
    expect((await run(inTwo, { ...constant, epochs: 1 })).last.values).toEqual(last.values);
    const [resume] = snapshots;
    expect(resume?.optimizerStart).toBe(4);
    const resumed = await run(toy(restarting), { ...constant, epochs: 2, ...(resume && { resume }) });
    expect(resumed.last.values).toEqual(last.values);
  });

  it('uses the learning rate of a single parameter, whatever the schedule', async () => {
    const whole = wholeModules();
    const own: PeftMethod = {
      ...whole,
      adapt: (...given) =>
        mapValues(whole.adapt(...given), (layer) => ({
          ...layer,
          params: mapValues(layer.params, (spec) => ({ ...spec, learningRate: 0.25 })),
        })),
    };
    const peft = toy(own);
    const key = 'encoder.layer.0.attention.query.weight';
    const before = floats(tensorAt(activeAdapter(peft).values, key));
    const { last } = await run(peft, { epochs: 1, learningRate: 1e-6, warmupRatio: 0.5 });
    const moved = floats(tensorAt(last.values, key)).map((value, index) => Math.abs(value - (before[index] ?? NaN)));
    expect(Math.max(...moved)).toBeGreaterThan(0.5); // four steps of Adam, each of up to 0.25
    expect(Math.max(...moved)).toBeLessThan(1.1);
  });

  it('reports every step, with scheduled learning rates', async () => {
    const steps: StepEvent[] = [];
    await run(toy(wholeModules()), { warmupRatio: 0.25, onStep: (event) => steps.push(event) });
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 12 }, (_, index) => index + 1));
    expect(steps.map(({ epoch }) => epoch)).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    expect(steps[0]?.learningRate).toBeCloseTo(0.0025, 12);
    expect(steps[3]?.learningRate).toBe(0.01);
    expect(steps[11]?.learningRate).toBeCloseTo(0.01 / 9, 12);
  });

  it('selects the best checkpoint of the final steps within the budget', async () => {
    const events: EvaluationEvent[] = [];
    const holdsFrom = 11;
    const peft = toy(wholeModules(() => ({ holdsBudget: (step) => step >= holdsFrom })));
    const { selected, last } = await run(peft, {
      finalRatio: 0.5,
      selection: { data: toyEvaluationData(), evaluations: 3 },
      onEvaluation: (event) => events.push(event),
    });
    expect(events.map(({ step }) => step)).toEqual([8, 10, 12]);
    expect(events.map(({ best }) => best)).toEqual([false, false, true]);
    expect([selected.step, last.step]).toEqual([12, 12]);
    expect(activeAdapter(peft).values).toEqual(selected.values);
  });

  it.each([
    [undefined, 10],
    [false, 10],
    [true, 12],
  ])('selects by the direction of the metric: lowerIsBetter %s', async (lowerIsBetter, expected) => {
    const values = [2, 5, 1]; // after steps 8, 10 and 12
    const data = {
      ...toyEvaluationData(),
      primaryMetric: 'made',
      ...(lowerIsBetter !== undefined && { lowerIsBetter }),
      score: () => ({ made: values.shift() ?? NaN }),
    };
    const { selected } = await run(toy(wholeModules()), { finalRatio: 0.5, selection: { data, evaluations: 3 } });
    expect(selected.step).toBe(expected);
  });

  it('never selects a checkpoint whose metric is NaN', async () => {
    const values = [NaN, 7, NaN];
    const score = () => ({ made: values.shift() ?? NaN });
    const data = { ...toyEvaluationData(), primaryMetric: 'made', lowerIsBetter: true, score };
    const { selected } = await run(toy(wholeModules()), { finalRatio: 0.5, selection: { data, evaluations: 3 } });
    expect([selected.step, selected.metrics]).toEqual([10, { made: 7 }]);
  });

  it('passes the controller the tensors it asks for and applies its changes', async () => {
    const seen: number[] = [];
    const key = 'encoder.layer.0.attention.query.bias';
    const peft = toy(
      wholeModules(({ totalSteps }) => ({
        reads: (step) => (step === totalSteps ? [key] : []),
        afterStep: (step, values) => {
          seen.push(step, values[key]?.data.length ?? 0);
          return { values: { [key]: hostTensor(new Float32Array(8).fill(7), [8]) } };
        },
      })),
    );
    const { last } = await run(peft);
    expect(seen).toEqual([12, 8]);
    expect([...(last.values[key]?.data ?? [])]).toEqual(Array(8).fill(7));
  });

  it('continues with the layers that a controller resizes and carries moments over', async () => {
    const path = 'encoder.layer.0.attention.query';
    const carried: string[] = [];
    const method = wholeModules(() => ({
      reads: (step) => (step === 5 ? [`${path}.weight`] : []),
      afterStep: () => {
        const site = toyModel().sites.find((candidate) => candidate.path === path);
        const weight = toyModel().weights[`${path}.weight`];
        if (!site || !weight) throw new RangeError('the toy model has changed');
        const withoutBias = fullLayer(site, { weight }, 'default');
        return {
          resized: {
            [path]: {
              layer: withoutBias,
              carry: (name, tensor) => {
                carried.push(name);
                return tensor;
              },
            },
          },
        };
      },
    }));
    const { last } = await run(toy(method));
    expect(carried).toEqual(['weight', 'weight', 'weight']);
    expect(last.step).toBe(12);
    expect(Object.keys(last.layers[path]?.params ?? {})).toEqual(['weight']);
  });

  it('stops at a loss that is not finite before any update, and names the first modules whose outputs are not', async () => {
    const peft = toy(wholeModules());
    const key = 'encoder.layer.1.attention.query.weight';
    const broken = hostTensor(new Float32Array(64).fill(NaN), [8, 8]);
    replaceAdapter(peft, { values: { ...activeAdapter(peft).values, [key]: broken } });
    await expect(run(peft)).rejects.toThrow(TrainingError);
    await expect(run(peft)).rejects.toThrow(
      /^step 1, before any update: the loss is NaN, so the forward pass is at fault; the first outputs that are not finite are those of encoder\.layer\.1\.attention\.query, [^;]+: check the weights and adapter there$/,
    );
  });

  it('advises a lower learning rate once it has had an effect', async () => {
    const runaway = run(toy(wholeModules()), { learningRate: 1e38, warmupRatio: 0, clipNorm: null });
    await expect(runaway).rejects.toThrow(
      /^step [2-9]: the loss is NaN; the largest gradients are of .*\(NaN\)\. Lower the learning rate or clip the gradients$/,
    );
  });

  it('names gradients that are not finite before any update', async () => {
    const unchanged = ({ weight }: Readonly<Record<string, tf.Tensor>>) =>
      tf.norm(tf.sub(weight as tf.Tensor, weight as tf.Tensor)) as tf.Scalar; // its gradient at 0 is NaN
    const method = defineMethod({
      ...wholeModules(),
      adapt: (sites, config, init) =>
        mapValues(wholeModules().adapt(sites, config, init), (layer) => ({ ...layer, loss: unchanged })),
    });
    const peft = attach(toyModel(), method({ targetModules: ['query'] }), { seed: 1 });
    const names = [0, 1].map((layer) => `encoder.layer.${layer}.attention.query.weight`).join(', ');
    const refusal = await run(peft).then(() => '', String);
    expect(refusal.replace(/loss is \d\.\d+/, 'loss is x')).toBe(
      `TrainingError: step 1, before any update: the loss is x, so the gradient is at fault; 2 of 6 gradients are not finite, first of ${names}; only those of the adapter: check whole and the model for a root, norm, quotient or logarithm at 0`,
    );
  });

  it('rejects a module that the loss does not depend on', async () => {
    const model = toyModel();
    const idle = {
      ...model,
      sites: [...model.sites, { ...model.sites[1], path: 'idle' } as (typeof model.sites)[number]],
    };
    const weights = { ...model.weights, 'idle.weight': hostTensor(new Float32Array(64), [8, 8]) };
    const peft = attach({ ...idle, weights }, defineMethod(wholeModules())({ targetModules: ['idle'] }));
    await expect(run(peft)).rejects.toThrow(/'idle' is adapted, but the loss does not depend on it/);
  });

  it('trap 27: keeps moments by name: a run continues with its layers in another order', async () => {
    const snapshots: TrainingSnapshot[] = [];
    const options = {
      optimizer: adamW({ weightDecay: 0.1 }),
      saveEvery: 6,
      onSnapshot: (at: TrainingSnapshot) => void snapshots.push(at),
    };
    const whole = await run(toy(wholeModules()), options);
    const [resume] = snapshots;
    const reordered = toy(wholeModules());
    const layers = Object.fromEntries(Object.entries(activeAdapter(reordered).layers).reverse());
    replaceAdapter(reordered, { layers });
    const resumed = await run(reordered, { optimizer: adamW({ weightDecay: 0.1 }), ...(resume && { resume }) });
    expect(Object.keys(resumed.last.layers)).toEqual(Object.keys(whole.last.layers).reverse());
    expect(farthestTensor(resumed.last.values, whole.last.values).distance).toBeLessThan(1e-6);
  });

  it("refuses a snapshot without the optimizer's tensors before it uploads anything", async () => {
    const snapshots: TrainingSnapshot[] = [];
    await run(toy(wholeModules()), { saveEvery: 6, onSnapshot: (at) => void snapshots.push(at) });
    const [snapshot = expect.fail('no snapshot')] = snapshots;
    const resume = { ...snapshot, slots: { moment1: {}, moment2: {} } };
    const upload = vi.fn<Executor['upload']>();
    const resumed = run(toy(wholeModules()), { resume, executor: { ...executor, upload } });
    await expect(resumed).rejects.toThrow(CheckpointError);
    expect(upload).not.toHaveBeenCalled();
  });

  it('trap 28: leaves every bit of the base unchanged, whatever is trained', async () => {
    const peft = toy(wholeModules());
    const copies = Object.entries(peft.model.weights).map(([name, { data }]) => [name, data.slice()] as const);
    await run(peft, { epochs: 4, optimizer: adamW({ weightDecay: 0.1 }) });
    for (const [name, copy] of copies) expect(peft.model.weights[name]?.data, name).toEqual(copy);
  });

  it('uploads each frozen weight once, for training and evaluation', async () => {
    const uploads = new Map<unknown, number>();
    const compiled = new Set<string>();
    const counting: Executor = {
      ...executor,
      upload(tensor) {
        uploads.set(tensor.data, (uploads.get(tensor.data) ?? 0) + 1);
        return executor.upload(tensor);
      },
      compile(fn, specs) {
        compiled.add(Object.keys(specs).some((name) => name.startsWith('slots/moment1/')) ? 'step' : 'predict');
        return executor.compile(fn, specs);
      },
    };
    const peft = toy(wholeModules());
    const frozen = Object.entries(peft.model.weights).filter(([name]) => !/query|classifier|embeddings/.test(name));
    await run(peft, { executor: counting, selection: { data: toyEvaluationData(), evaluations: 2 } });
    expect([...compiled].sort()).toEqual(['predict', 'step']);
    expect(frozen.map(([, { data }]) => uploads.get(data))).toEqual(frozen.map(() => 1));
  });

  it('trains only a single adapter that is enabled and not merged', async () => {
    for (const state of [{ enabled: false }, { active: [] }, { merged: ['default'] }]) {
      await expect(run(Object.assign(toy(wholeModules()), state))).rejects.toThrow(ConfigError);
    }
  });

  const nothing: PeftMethod = {
    ...wholeModules(),
    capabilities: { ...wholeModules().capabilities, kinds: [] },
    adapt: () => ({}),
  };

  it('reports the rate of the head where the head alone is trained', async () => {
    const rates: number[] = [];
    const onStep = ({ learningRate }: StepEvent) => rates.push(learningRate);
    await run(toy(nothing, {}), { learningRates: { head: 0.5 }, schedule: 'constant', warmupRatio: 0, onStep });
    expect(new Set(rates)).toEqual(new Set([0.5]));
  });

  it('rejects a run that trains nothing', async () => {
    const peft = attach({ ...toyModel(), head: [] }, defineMethod(nothing)({}), { seed: 1 });
    await expect(run(peft)).rejects.toThrow(expect.objectContaining({ code: 'PEFT_CONFIG', path: 'head' }));
  });

  it.each<[Partial<TrainOptions>, string]>([
    [{ epochs: 0 }, 'epochs'],
    [{ epochs: 1.5 }, 'epochs'],
    [{ gradientAccumulationSteps: 0 }, 'gradientAccumulationSteps'],
    [{ gradientAccumulationSteps: 1.5 }, 'gradientAccumulationSteps'],
    [{ gradientAccumulationSteps: NaN }, 'gradientAccumulationSteps'],
    [{ learningRate: -1 }, 'learningRate'],
    [{ learningRates: { gate: NaN } }, 'learningRates.gate'],
    [{ warmupRatio: 1 }, 'warmupRatio'],
    [{ warmupRatio: 0.6, finalRatio: 0.6 }, 'finalRatio'],
    [{ clipNorm: 0 }, 'clipNorm'],
    [{ selection: { data: toyEvaluationData(), evaluations: 0 } }, 'selection.evaluations'],
    [{ selection: { data: toyEvaluationData(), trainSubset: {} as never } }, 'selection.trainSubset'],
  ])('rejects %o', async (options, field) => {
    await expect(run(toy(wholeModules()), options)).rejects.toThrow(ConfigError);
    await expect(run(toy(wholeModules()), options)).rejects.toMatchObject({ path: field });
  });

  it('does not clip a group in unclippedGroups', async () => {
    const moved = async (unclippedGroups: string[]): Promise<unknown> => {
      const { last } = await run(toy(wholeModules()), {
        epochs: 1,
        clipNorm: 1e-6,
        unclippedGroups,
        optimizer: adamW({ epsilon: 1e-3 }),
      });
      return last.values['classifier.weight']?.data;
    };
    expect(await moved(['head'])).not.toEqual(await moved([]));
  });
});
