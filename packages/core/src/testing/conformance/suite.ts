import { expect } from 'vitest';
import { attach } from '../../adapter/attach.js';
import { withAdapter, type PeftModel } from '../../adapter/peft-model.js';
import type { CallableMethod, TargetConfig } from '../../contracts/method.js';
import type { Executor } from '../../contracts/executor.js';
import type { InputBatch, Model } from '../../contracts/model.js';
import { memoryStorage, type Storage } from '../../storage.js';
import { savePretrained } from '../../files/pretrained.js';
import { calibrate } from '../../train/calibrate.js';
import { predict } from '../../train/evaluate.js';
import type { TrainOptions } from '../../train/options.js';
import type { TrainResult } from '../../train/result.js';
import { train } from '../../train/train.js';
import { relativeDistance } from '../closeness.js';
import { referenceExecutor } from '../reference-executor.js';
import { toyEvaluationData, toyModel, toyTrainingData } from '../toy-model.js';

/** What the conformance suite needs to know of a method. */
export interface ConformanceOptions<C extends TargetConfig> {
  /** Named configurations to run everything with. */
  readonly configs: Readonly<Record<string, Partial<C>>>;
  /** Names of configurations that change the output before training, of a method that by default does not. */
  readonly randomAtInit?: readonly string[];
  /** Names of configurations that hold a part constant in the backward pass, with what it is: finite differences skip them. */
  readonly detached?: Readonly<Record<string, string>>;
  /**
   * Budgets of configurations, in what LoRA stores of one rank; an empty list for one that keeps none. Default 2, and of the
   * first configuration also 1.
   */
  readonly budgets?: Readonly<Record<string, readonly number[]>>;
  /** Options that must be refused, and the field the error must name. */
  readonly invalid: readonly { readonly options: Record<string, unknown>; readonly field: string }[];
  /** Learning rate at which the toy task is learnt. Default 0.02. */
  readonly learningRate?: number;
  /** Default: TensorFlow.js's own JavaScript backend. */
  readonly executor?: () => Promise<Executor>;
}

/** A method with one of its configurations. */
export interface Suite<C extends TargetConfig = TargetConfig> {
  readonly method: CallableMethod<C>;
  readonly name: string;
  readonly config: Partial<C>;
  readonly learningRate: number;
  readonly identityAtInit: boolean;
  /** What the backward pass holds constant, if anything. */
  readonly detached: string | undefined;
  /** In what LoRA stores of one rank. */
  readonly budgets: readonly number[];
  executor(): Promise<Executor>;
}

/** Outputs of two float32 computations of one network are this close. */
const OUTPUT_TOLERANCE = 1e-5;

/** The suite of one configuration. */
export function suiteOf<C extends TargetConfig>(
  method: CallableMethod<C>,
  name: string,
  { configs, randomAtInit = [], detached = {}, budgets = {}, learningRate = 0.02, executor }: ConformanceOptions<C>,
): Suite<C> {
  return {
    method,
    name,
    config: configs[name] ?? {},
    learningRate,
    identityAtInit: method.capabilities.identityAtInit && !randomAtInit.includes(name),
    detached: detached[name],
    budgets: budgets[name] ?? (name === Object.keys(configs)[0] ? [1, 2] : [2]),
    executor: executor ?? referenceExecutor,
  };
}

/** The method on a toy model, calibrated where its initial values are computed from data. */
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

/** Trains on the toy task. */
export async function trainToy<C extends TargetConfig>(
  peft: PeftModel<C>,
  suite: Suite<C>,
  options: Partial<TrainOptions> & Pick<TrainOptions, 'epochs'>,
): Promise<TrainResult> {
  const { learningRate } = suite;
  return train(peft, toyTrainingData(), {
    executor: await suite.executor(),
    learningRate,
    ...options,
  });
}

const trainedBefore = new WeakMap<object, Map<string, Promise<PeftModel>>>();

/** A trained adapter, in a model of its own at every call; trained once. */
export async function trained<C extends TargetConfig>(suite: Suite<C>, epochs = 4, seed = 3): Promise<PeftModel<C>> {
  const made = trainedBefore.get(suite) ?? new Map<string, Promise<PeftModel>>();
  trainedBefore.set(suite, made);
  const key = `${epochs} epochs, seed ${seed}`;
  const peft = made.get(key) ?? trainedAnew(suite, epochs, seed);
  made.set(key, peft);
  return withAdapter((await peft) as PeftModel<C>, {});
}

async function trainedAnew<C extends TargetConfig>(
  suite: Suite<C>,
  epochs: number,
  seed: number,
): Promise<PeftModel<C>> {
  const peft = await attached(suite, { seed });
  await trainToy(peft, suite, { epochs });
  return peft;
}

/** A trained adapter and the storage that it is saved in, as the folder `adapter`. */
export async function saved<C extends TargetConfig>(
  suite: Suite<C>,
  pruned: boolean,
): Promise<{ peft: PeftModel<C>; storage: Storage }> {
  const peft = await trained(suite);
  const storage = memoryStorage();
  await savePretrained(peft, 'adapter', { storage, pruned });
  return { peft, storage };
}

/** Outputs on rows that were not trained on, one after the other. */
export async function outputsOf(
  model: PeftModel | Model,
  suite: Pick<Suite, 'executor'>,
  batches: readonly InputBatch[] = toyEvaluationData(2, 1).batches,
): Promise<number[]> {
  const rows = await predict(model, batches, { executor: await suite.executor() });
  return rows.flatMap((row) => [...row]);
}

/** Two outputs are equal but for rounding. */
export function expectClose(
  actual: readonly number[],
  expected: readonly number[],
  tolerance = OUTPUT_TOLERANCE,
): void {
  expect(relativeDistance(actual, expected)).toBeLessThan(tolerance);
}

/** Two outputs are of different networks. */
export function expectApart(actual: readonly number[], expected: readonly number[]): void {
  expect(relativeDistance(actual, expected)).toBeGreaterThan(1e-3);
}
