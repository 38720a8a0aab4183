import * as v from 'valibot';
import type { Calibration, ConfiguredMethod, PeftMethod } from './contracts/method.js';
import type { EvaluationData, InputBatch, Model, TrainingData } from './contracts/model.js';
import type { HostTensors } from './tensors.js';

/* Schemas of the values that public functions take. They check only what tells one kind of value from another. */

/** What a member of a value is, as `typeof` says, but for lists and maps. */
type MemberKind = 'function' | 'list' | 'map' | 'number' | 'object' | 'string';

/** Returns a schema for objects and functions with these members; `expected` is what messages ask for. */
export function objectLike<T extends object>(
  expected: string,
  members: { readonly [K in keyof T]?: MemberKind },
  fits: (value: T) => boolean = () => true,
) {
  return v.custom<T>(
    (value) =>
      Object(value) === value &&
      Object.entries(members).every(([name, kind]) => kindOf((value as Record<string, unknown>)[name]) === kind) &&
      fits(value as T),
    expected,
  );
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'list';
  if (value instanceof Map) return 'map';
  return value === null ? 'null' : typeof value;
}

/** Returns a schema for values of one kind. */
function ofKind<T>(expected: string, kind: MemberKind) {
  return v.custom<T>((value) => kindOf(value) === kind, expected);
}

/** Returns a schema for lists; `expected` is what messages ask for. */
function listOf<T>(expected: string, item: v.GenericSchema<T>) {
  return v.custom<readonly T[]>((value) => Array.isArray(value) && value.every((each) => v.is(item, each)), expected);
}

/** A schema for values that are checked where they are used. */
export const anything = v.optional(v.unknown());

/** A schema for texts of at least one character. */
export const aText = v.custom<string>((value) => typeof value === 'string' && value !== '', 'a text');

/** A schema for lists of texts. */
export const aTextList = listOf('a list of texts', v.string());

/** A schema for lists of finite numbers. */
export const aNumberList = listOf('a list of numbers', v.pipe(v.number(), v.finite()));

/** A schema for integers. */
export const anInteger = v.pipe(v.number(), v.integer());

/** A schema for lists, whatever they hold. */
export const aList = ofKind<readonly unknown[]>('a list', 'list');

/** A schema for functions. */
export const aFunction = ofKind<(...given: never) => unknown>('a function', 'function');

/** A schema for objects with values by name. */
export const aRecord = ofKind<Readonly<Record<string, unknown>>>('an object', 'object');

/** A schema for maps. */
export const aMap = ofKind<ReadonlyMap<unknown, unknown>>('a Map', 'map');

/** A schema for tensors by name. */
export const namedTensors = ofKind<HostTensors>('tensors by name', 'object');

/** A schema for models without adapters. */
export const aModel = objectLike<Model>('a model without adapters, e.g. of fromPretrained or mergeAndUnload', {
  name: 'string',
  sites: 'list',
  weights: 'object',
  forward: 'function',
});

/** A schema for methods. */
export const aMethod = objectLike<PeftMethod>('a method: the function itself, not called', {
  capabilities: 'object',
  parseConfig: 'function',
});

/** A schema for lists of methods. */
export const aMethodList = listOf('a list of methods', aMethod);

/** A schema for methods with options. */
export const aCalledMethod = objectLike<ConfiguredMethod>(
  'a method with its options: call the method, as in attach(model, method())',
  { config: 'object' },
  ({ method }) => v.is(aMethod, method),
);

/** A schema for the results of `calibrate`. */
export const aCalibration = ofKind<Calibration>('the result of calibrate', 'object');

/** A schema for abort signals. */
export const aSignal = objectLike<AbortSignal>("an AbortSignal, e.g. an AbortController's", {
  throwIfAborted: 'function',
});

/** A schema for batches to compute outputs for. */
export const aBatchList = listOf(
  'a list of batches, e.g. of inputBatches',
  objectLike<InputBatch>('a batch', { inputs: 'object', rowWeights: 'object', rows: 'list' }),
);

/** A schema for data to train on. */
export const someTrainingData = objectLike<TrainingData>('data to train on, e.g. of trainingData', {
  epoch: 'function',
  batchesPerEpoch: 'number',
});

/** A schema for data to evaluate on. */
export const someEvaluationData = objectLike<EvaluationData>(
  'data to evaluate on, e.g. of evaluationData',
  { score: 'function' },
  ({ batches }) => v.is(aBatchList, batches),
);
