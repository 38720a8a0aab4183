import * as v from 'valibot';
import type { Calibration, ConfiguredMethod, PeftMethod } from './contracts/method.js';
import type { Batch, EvaluationData, InputBatch, Model, TrainingData } from './contracts/model.js';
import type { PeftModel } from './adapter/peft-model.js';
import type { Storage } from './storage.js';
import type { HostTensors } from './tensors.js';

/* Schemas of the values that public functions take. They check as much as tells one kind of value from another. */

/** Returns a schema for objects and functions with these members; `expected` is what messages ask for. */
export function objectLike<T extends object>(expected: string, fits: (members: Partial<T>) => boolean) {
  return v.custom<T>((value) => Object(value) === value && fits(value as Partial<T>), expected);
}

/** A schema for texts of at least one character. */
export const aText = v.custom<string>((value) => typeof value === 'string' && value !== '', 'a text');

/** A schema for lists of texts. */
export const aTextList = v.custom<readonly string[]>(
  (value) => Array.isArray(value) && value.every((item) => typeof item === 'string'),
  'a list of texts',
);

/** A schema for lists of finite numbers. */
export const aNumberList = v.custom<readonly number[]>(
  (value) => Array.isArray(value) && value.every(Number.isFinite),
  'a list of numbers',
);

/** A schema for integers. */
export const anInteger = v.pipe(v.number(), v.integer());

/** A schema for lists, whatever they hold. */
export const aList = objectLike<readonly unknown[]>('a list', (value) => Array.isArray(value));

/** A schema for values that are checked where they are used. */
export const anything = v.optional(v.unknown());

/** A schema for functions. */
export const aFunction = v.custom<(...given: never) => unknown>((value) => typeof value === 'function', 'a function');

/** A schema for objects with values by name. */
export const aRecord = objectLike<Readonly<Record<string, unknown>>>('an object', isRecord);

/** A schema for tensors by name. */
export const namedTensors = objectLike<HostTensors>('tensors by name', isRecord);

/** A schema for models without adapters. */
export const aModel = objectLike<Model>('a model without adapters, e.g. of fromPretrained or mergeAndUnload', isModel);

/** A schema for models with adapters. */
export const aPeftModel = objectLike<PeftModel>('a model with adapters, as attach returns', hasAdapters);

/** A schema for models with or without adapters. */
export const anyModel = objectLike<Model | PeftModel>(
  'a model of fromPretrained, or one with adapters, as attach returns',
  (value) => hasAdapters(value) || isModel(value as Partial<Model>),
);

/** A schema for methods. */
export const aMethod = objectLike<PeftMethod>('a method, e.g. lora', isMethod);

/** A schema for lists of methods. */
export const aMethodList = objectLike<readonly PeftMethod[]>(
  'a list of methods, e.g. [lora]',
  (value) => Array.isArray(value) && value.every((method) => isMethod(Object(method) as Partial<PeftMethod>)),
);

/** A schema for methods with options. */
export const aCalledMethod = objectLike<ConfiguredMethod>(
  'a method with its options: call it, e.g. lora()',
  ({ method, config }) => isMethod(Object(method) as Partial<PeftMethod>) && isRecord(config),
);

/** A schema for the results of `calibrate`. */
export const aCalibration = objectLike<Calibration>(
  'the result of calibrate: await it',
  ({ kind, values }) => typeof kind === 'string' && isRecord(values),
);

/** A schema for storages. */
export const aStorage = objectLike<Storage>('a storage, e.g. memoryStorage()', ({ read, exists, write }) =>
  [read, exists, write].every((each) => typeof each === 'function'),
);

/** A schema for signals that abort. */
export const aSignal = objectLike<AbortSignal>(
  "an AbortSignal, e.g. an AbortController's",
  ({ throwIfAborted }) => typeof throwIfAborted === 'function',
);

/** A schema for batches to compute outputs for. */
export const aBatchList = objectLike<readonly InputBatch[]>('a list of batches, e.g. of inputBatches', areBatches);

/** A schema for data to train on. */
export const someTrainingData = objectLike<TrainingData>(
  'data to train on, e.g. of trainingData',
  ({ epoch, batchesPerEpoch }) => typeof epoch === 'function' && typeof batchesPerEpoch === 'number',
);

/** A schema for data to evaluate on. */
export const someEvaluationData = objectLike<EvaluationData>(
  'data to evaluate on, e.g. of evaluationData',
  ({ batches, score }) => typeof score === 'function' && areBatches(batches),
);

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isModel({ name, sites, weights, forward }: Partial<Model>): boolean {
  return typeof name === 'string' && Array.isArray(sites) && isRecord(weights) && typeof forward === 'function';
}

function hasAdapters(value: Partial<Model | PeftModel>): boolean {
  return 'adapters' in value && value.adapters instanceof Map;
}

function isMethod({ capabilities, parseConfig }: Partial<PeftMethod>): boolean {
  return isRecord(capabilities) && typeof parseConfig === 'function';
}

function areBatches(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.every((batch) => {
      const { inputs, rowWeights, rows } = Object(batch) as Partial<Batch>;
      return isRecord(inputs) && isRecord(rowWeights) && Array.isArray(rows);
    })
  );
}
