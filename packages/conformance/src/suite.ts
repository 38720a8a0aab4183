import { expect } from 'vitest';
import {
  attach,
  calibrate,
  memoryStorage,
  predict,
  savePretrained,
  withAdapter,
  type Executor,
  type InputBatch,
  type Model,
  type PeftModel,
  type Storage,
  type TrainOptions,
} from '@peftjs/core';
import type { CallableMethod, TargetConfig } from '@peftjs/core/method';
import type { TrainResult } from '@peftjs/core/runtime';
import { relativeDistance } from '@peftjs/core/linalg';
import { referenceExecutor } from './reference-executor.js';
import { toyEvaluationData, toyModel, toyTrainingData } from './toy-model.js';
import { trainToy } from './toy-runs.js';

/** Options of the conformance suite for a method. */
export interface ConformanceOptions<C extends TargetConfig> {
  /** Named configurations; every test runs with each of them. */
  readonly configs: Readonly<Record<string, Partial<C>>>;
  /**
   * Names of configurations that change the output before training, for a method that by default does not. Default:
   * none.
   */
  readonly randomAtInit?: readonly string[];
  /**
   * Names of configurations whose backward pass holds something constant, with a description of it. Finite differences
   * are skipped for them. Default: none.
   */
  readonly detached?: Readonly<Record<string, string>>;
  /**
   * Names of options and tensors that an unpruned file changes or leaves out, e.g. `r`, if it states the remaining ranks,
   * or scores that training recomputes. Default: none.
   */
  readonly rewritten?: readonly string[];
  /**
   * Budgets by configuration, in multiples of what a LoRA of rank 1 stores; an empty list for a configuration without
   * budgets. Default: 2, and for the first configuration also 1.
   */
  readonly budgets?: Readonly<Record<string, readonly number[]>>;
  /** Options that must be rejected, and the field that the error must name. */
  readonly invalid: readonly { readonly options: Record<string, unknown>; readonly field: string }[];
  /** The learning rate for the toy task. Default 0.02. */
  readonly learningRate?: number;
  /** Makes the executor. Default: TensorFlow.js's JavaScript backend. */
  readonly executor?: () => Promise<Executor>;
}

/** A method with one of its configurations. */
export interface Suite<C extends TargetConfig = TargetConfig> {
  /** The method. */
  readonly method: CallableMethod<C>;
  /** The configuration's name. */
  readonly name: string;
  /** The configuration. */
  readonly config: Partial<C>;
  /** The learning rate for the toy task. */
  readonly learningRate: number;
  /** Whether the untrained adapter leaves the outputs unchanged. */
  readonly identityAtInit: boolean;
  /** A description of what the backward pass holds constant, if anything. */
  readonly detached: string | undefined;
  /** Names of options and tensors that an unpruned file changes or leaves out. */
  readonly rewritten: readonly string[];
  /** Budgets, in multiples of what a LoRA of rank 1 stores. */
  readonly budgets: readonly number[];
  /** Makes the executor. */
  executor(): Promise<Executor>;
}

/** The largest relative distance of two float32 computations of one network's outputs. */
const OUTPUT_TOLERANCE = 1e-5;

/** Returns the suite of one configuration. */
export function suiteOf<C extends TargetConfig>(
  method: CallableMethod<C>,
  name: string,
  {
    configs,
    randomAtInit = [],
    detached = {},
    rewritten = [],
    budgets = {},
    learningRate = 0.02,
    executor,
  }: ConformanceOptions<C>,
): Suite<C> {
  return {
    method,
    name,
    config: configs[name] ?? {},
    learningRate,
    identityAtInit: method.capabilities.identityAtInit && !randomAtInit.includes(name),
    detached: detached[name],
    rewritten,
    budgets: budgets[name] ?? (name === Object.keys(configs)[0] ? [1, 2] : [2]),
    executor: executor ?? referenceExecutor,
  };
}

/** Attaches the method to a toy model; calibrates it if its initial values are computed from data. */
export async function attached<C extends TargetConfig>(
  { method, config }: Suite<C>,
  { seed = 3, model = toyModel() }: { readonly seed?: number; readonly model?: Model } = {},
): Promise<PeftModel<C>> {
  const configured = method(config);
  if (!method.calibration?.(configured.config)) return attach(model, configured, { seed });
  const executor = await referenceExecutor();
  const calibration = await calibrate(model, configured, toyTrainingData(), { executor, batches: 2, seed });
  return attach(model, configured, { seed, calibration });
}

/** Trains on the toy task as the suite says. */
export async function trainInSuite<C extends TargetConfig>(
  peft: PeftModel<C>,
  { learningRate, executor }: Suite<C>,
  options: Partial<TrainOptions> & Pick<TrainOptions, 'epochs'>,
): Promise<TrainResult> {
  return trainToy(peft, { executor: await executor(), learningRate, ...options });
}

const trainedBefore = new WeakMap<object, Map<string, Promise<PeftModel>>>();

/** Returns a model with a trained adapter: a new copy at every call, trained only once. */
export async function trained<C extends TargetConfig>(suite: Suite<C>, epochs = 4, seed = 3): Promise<PeftModel<C>> {
  const made = trainedBefore.get(suite) ?? new Map<string, Promise<PeftModel>>();
  trainedBefore.set(suite, made);
  const key = `${epochs} epochs, seed ${seed}`;
  const peft = made.get(key) ?? newlyTrained(suite, epochs, seed);
  made.set(key, peft);
  return withAdapter((await peft) as PeftModel<C>, {});
}

async function newlyTrained<C extends TargetConfig>(
  suite: Suite<C>,
  epochs: number,
  seed: number,
): Promise<PeftModel<C>> {
  const peft = await attached(suite, { seed });
  await trainInSuite(peft, suite, { epochs });
  return peft;
}

/** Returns a trained adapter and the storage with its saved folder `adapter`. */
export async function saved<C extends TargetConfig>(
  suite: Suite<C>,
  pruned: boolean,
): Promise<{ peft: PeftModel<C>; storage: Storage }> {
  const peft = await trained(suite);
  const storage = memoryStorage();
  await savePretrained(peft, 'adapter', { storage, pruned });
  return { peft, storage };
}

/** Returns the concatenated outputs on rows that were not trained on. */
export async function outputsOf(
  model: PeftModel | Model,
  suite: Pick<Suite, 'executor'>,
  batches: readonly InputBatch[] = toyEvaluationData(2, 1).batches,
): Promise<number[]> {
  const rows = await predict(model, batches, { executor: await suite.executor() });
  return rows.flatMap((row) => [...row]);
}

/** Expects two outputs to be equal except for rounding. */
export function expectClose(
  actual: readonly number[],
  expected: readonly number[],
  tolerance = OUTPUT_TOLERANCE,
): void {
  expect(relativeDistance(actual, expected)).toBeLessThan(tolerance);
}

/** Expects two outputs to be of different networks. */
export function expectApart(actual: readonly number[], expected: readonly number[]): void {
  expect(relativeDistance(actual, expected)).toBeGreaterThan(1e-3);
}
