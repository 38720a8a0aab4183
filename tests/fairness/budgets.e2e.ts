import { activeAdapter, attach, countParameters, hostTensor, train, type Model } from '@peftjs/core';
import {
  createRng,
  tensorAt,
  type AdapterLayers,
  type HostTensors,
  type MatchOn,
  type PeftMethod,
} from '@peftjs/core/method';
import { storedParameters, tensorKey, withResized } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import { referenceExecutor, toyEvaluationData, toyModel, toyTrainingData } from '@peftjs/conformance';
import { fromPretrained } from '@peftjs/models';
import { beforeAll, describe, expect, it } from 'vitest';
import { resolveMethod } from '../../packages/cli/src/registry/methods.js';
import { composeStudy } from '../../packages/cli/src/study/study.js';
import { fitConfig, type FittedConfig } from '../../packages/cli/src/study/budgets.js';
import { bertFolder } from '../models/bert-tiny.js';
import { packageName } from '../models/use-lite.js';
import { bertShapes, llamaShapes, shapesOnly } from './shapes.js';

/** Models by their names in these tests. The real ones are without weights, too. */
const models: Record<string, () => Promise<Model>> = {
  'USE-lite': async () => shapesOnly(await fromPretrained(packageName)),
  'tiny BERT': async () => shapesOnly(await fromPretrained(bertFolder)),
  MiniLM: () => Promise.resolve(bertShapes('MiniLM', 6, 384, 1536)),
  'BERT-base': () => Promise.resolve(bertShapes('BERT-base', 12, 768, 3072)),
  Llama: () => Promise.resolve(llamaShapes('Llama', 4, 2048, 512, 5632)),
};

/** An arm: a method, its options, and how close it must come to the budget. */
interface Arm {
  readonly method: string;
  readonly options?: Record<string, unknown>;
  readonly tolerance?: number;
}

const arms: Record<string, Arm> = {
  lora: { method: 'lora' },
  adalora: { method: 'adalora', tolerance: 0.01 },
  doublets: { method: 'adalora', options: { parametrization: 'lora' }, tolerance: 0.01 },
  sora: { method: 'sora', tolerance: 0.01 },
  'random gates': { method: 'sora', options: { selection: 'random' }, tolerance: 0.01 },
  'truncated-lora': { method: 'truncated-lora', tolerance: 0.01 },
  l1ra: { method: 'l1ra', tolerance: 0.01 },
  alora: { method: 'alora' },
  'bayes-lora': { method: 'bayes-lora' },
  'dynamic-dora': { method: 'dynamic-dora' },
  'ela-lora': { method: 'ela-lora' },
  houlsby: { method: 'houlsby' },
  pfeiffer: { method: 'pfeiffer' },
};

/**
 * DoRA reads the weights, so it runs on small models; VeRA draws matrices with thousands of ranks, so it runs on the
 * smallest.
 */
const dora: Arm = { method: 'lora', options: { useDora: true } };
const armsOnSmall: Record<string, Record<string, Arm>> = {
  'USE-lite': { ...arms, dora },
  'tiny BERT': { ...arms, dora, vera: { method: 'vera' } },
};

const budgets = ['r=1', 'r=2', 'r=4', 'r=8'];
const targets = [undefined, 'all-linear'];
const modelNames = Object.keys(models);

/** The target modules: every arm meets each budget with both sets, on one model or another. */
const targetsOf = (model: string, budget: number): string | undefined =>
  targets[(modelNames.indexOf(model) + budget) % targets.length];

/**
 * The parameters that an adapter stores once its ranks are chosen, with values that training might leave; and those
 * that it trains at the start.
 */
function countsOf(method: PeftMethod, model: Model, { config }: FittedConfig): Record<MatchOn, number> {
  const peft = attach(model, { method, config }, { seed: 1 });
  const { layers, values: initial } = activeAdapter(peft);
  const values = { ...initial, ...afterSteps(layers, initial) };
  const controller = method.controller?.(layers, config, { totalSteps: 2, warmupSteps: 0, finalSteps: 1 });
  const seen = (controller?.reads(1) ?? []).map((name) => {
    const drawn = normalValues(createRng(2).fork(name), tensorAt(values, name).shape, 1);
    return [name, { ...drawn, data: drawn.data.map(Math.abs) }] as const;
  });
  const read = Object.fromEntries(seen);
  const probes = Object.keys(controller?.probes?.(1, read) ?? {});
  const losses = Object.fromEntries(probes.map((name) => [name, createRng(2).fork(name).uniform()]));
  const changes = seen.length > 0 ? controller?.afterStep(1, read, losses) : undefined;
  const { values: chosen = {}, resized = {} } = changes ?? {};
  const after: HostTensors = { ...values, ...read, ...chosen };
  for (const [path, { layer, carry }] of Object.entries(resized)) {
    for (const name of Object.keys({ ...layer.params, ...layer.state })) {
      after[`${path}.${name}`] = carry(name, tensorAt(after, `${path}.${name}`), 'value');
    }
  }
  return {
    trained: countParameters(peft).trainable,
    stored: storedParameters(withResized(layers, resized), after),
  };
}

/** Gates and singular values that start at zero, with values as after training. */
function afterSteps(layers: AdapterLayers, values: HostTensors): HostTensors {
  const counted = Object.values(layers).flatMap((layer) => (layer.counted ?? []).map((name) => tensorKey(layer, name)));
  const zeros = counted.filter((key) => tensorAt(values, key).data.every((value) => value === 0));
  return Object.fromEntries(
    zeros.map((key) => {
      const { data, shape } = tensorAt(values, key);
      return [key, hostTensor(new Float32Array(data.length).fill(1), shape)];
    }),
  );
}

/** A method and how a study fits it to a budget. */
async function fitter({ method: name, options }: Arm, matchOn: MatchOn = 'stored') {
  const { method } = await resolveMethod(name);
  const { protocol, methods } = composeStudy([
    { model: 'shapes', tasks: ['none'], seeds: 1, budgets, protocol: { matchOn }, methods: { arm: { options } } },
  ]);
  const settings = methods.arm ?? expect.fail('no arm');
  return { method, fit: (model: Model, budget: string) => fitConfig(method, model, { budget, settings, protocol }) };
}

/** The largest deviation of an arm's stored or trained parameters from the budgets. */
async function farthest(name: string, model: Model, { method, options }: Arm, on: MatchOn): Promise<number> {
  const distances = budgets.map(async (budget, index) => {
    const targetModules = targetsOf(name, index);
    const arm = { method, options: { ...options, ...(targetModules && { targetModules }) } };
    const { method: resolved, fit } = await fitter(arm, on);
    const fitted = fit(model, budget);
    return Math.abs(countsOf(resolved, model, fitted)[on] / (fitted.requested ?? NaN) - 1);
  });
  return Math.max(...(await Promise.all(distances)));
}

describe.each(modelNames)('budgets of 1, 2, 4 and 8 ranks on the shapes of %s', (name) => {
  let model: Model;
  beforeAll(async () => {
    model = (await models[name]?.()) ?? expect.fail(`no model ${name}`);
  });

  it.each(Object.entries(armsOnSmall[name] ?? arms))('are stored by %s', async (_, arm) => {
    expect(await farthest(name, model, arm, 'stored')).toBeLessThanOrEqual(arm.tolerance ?? 0.02);
  });

  it.each(Object.entries(armsOnSmall[name] ?? {}))('are trained by %s', async (_, arm) => {
    expect(await farthest(name, model, arm, 'trained')).toBeLessThanOrEqual(0.02);
  });
});

describe('a budget as a number', () => {
  it('is met down to the smallest adapter of one module, and rejected below', async () => {
    const model = (await models.MiniLM?.()) ?? expect.fail('no model');
    const { method, fit } = await fitter({ method: 'lora' });
    expect(countsOf(method, model, fit(model, '768')).stored).toBe(768);
    expect(() => fit(model, '767')).toThrow('the smallest adapter of one of 12 modules takes 768 parameters');
  });
});

describe('after training', () => {
  // A masked doublet never returns: a toy model has few left, and perhaps none that fills the rest of a budget.
  const adaptive = Object.entries(arms).filter(([name, { tolerance }]) => tolerance && name !== 'doublets');

  it.each(adaptive)('%s stores 1, 2, 4 and 6 ranks within 1 %%', async (_, arm) => {
    const { method, fit } = await fitter(arm);
    for (const budget of ['r=1', 'r=2', 'r=4', 'r=6']) {
      // eight ranks would be larger than the toy model itself
      const { config, requested } = fit(toyModel(), budget);
      const peft = attach(toyModel(), { method, config }, { seed: 1 });
      const { selected, last } = await train(peft, toyTrainingData(), {
        executor: await referenceExecutor(),
        epochs: 4,
        learningRate: 0.02,
        selection: { data: toyEvaluationData() },
      });
      for (const { storedParameters: stored } of [selected, last]) {
        expect(stored / (requested ?? NaN), budget).toBeLessThanOrEqual(1);
        expect(stored / (requested ?? NaN), budget).toBeGreaterThanOrEqual(0.99);
      }
    }
  });
});
