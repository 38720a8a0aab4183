import { Tensor } from '@tensorflow/tfjs-core';
import type { CompiledFunction, CompileOptions, Executor, InputSpec } from '../contracts/executor.js';
import { mapValues, type HostTensor, type HostTensors } from '../tensors.js';

/** The same nested record with leaves of another type. */
export type Leaves<S, From, To> = S extends From ? To : { readonly [K in keyof S]: Leaves<S[K], From, To> };

/** The specs of a nested record of tensors. */
export type Specs<S> = Leaves<S, Tensor, InputSpec>;

/** An executor's values for a nested record of tensors. */
export type OnDevice<S> = Leaves<S, Tensor, unknown>;

/** The host tensors for a nested record of tensors. */
export type OnHost<S> = Leaves<S, Tensor, HostTensor>;

/** A pure function between nested records of tensors, on an executor. It is compiled at its first run. */
export interface Program<I, O> {
  /**
   * Runs the function once. Tensors in `uploads` are uploaded for this run and then released; values in `onDevice` are
   * not changed. The caller owns the returned values.
   */
  run<F extends keyof I>(
    uploads: { readonly [K in F]: OnHost<I[K]> },
    onDevice: { readonly [K in Exclude<keyof I, F>]: OnDevice<I[K]> },
  ): Promise<OnDevice<O>>;
  /** Returns the milliseconds spent compiling so far. */
  compileMs(): number;
  /** Frees the compiled function after the runs in progress. */
  dispose(): Promise<void>;
}

/**
 * Wraps a function as a program.
 * @param specs one per tensor of `fn`'s input, in the same nested record
 * @param constants values that will be the same in every run
 * @param options how it is compiled, asked for at its first run
 */
export function openProgram<I extends object, O extends object>(
  executor: Executor,
  fn: (inputs: I) => O,
  specs: Specs<I>,
  constants: Partial<OnDevice<I>> = {},
  options: () => CompileOptions = () => ({}),
): Program<I, O> {
  const keys = keysOf(specs, isSpec);
  let results: Nested<string> = {};
  let compiled: Promise<CompiledFunction> | undefined;
  let made: CompiledFunction | undefined;

  const flatFunction = (inputs: Record<string, Tensor>): Record<string, Tensor> => {
    const outputs = fn(nested(keys, (key) => inputs[key]) as I) as Nested<Tensor>;
    results = keysOf(outputs, (leaf) => leaf instanceof Tensor);
    return flat(outputs, results);
  };
  const ready = async (): Promise<CompiledFunction> => {
    compiled ??= executor.compile(
      flatFunction,
      flat(specs as Nested<InputSpec>, keys),
      flat(constants as Nested<unknown>, keys),
      options(),
    );
    try {
      return (made = await compiled);
    } catch (error) {
      compiled = undefined;
      throw error;
    }
  };

  const running = new Set<Promise<unknown>>();
  const runOnce = async (uploads: Nested<HostTensor>, onDevice: Nested<unknown>): Promise<OnDevice<O>> => {
    const { run } = await ready();
    const uploaded = uploadAll(executor, flat(uploads, keys));
    try {
      const outputs = await run({ ...flat(onDevice, keys), ...uploaded });
      return nested(results, (name) => outputs[name]) as OnDevice<O>;
    } finally {
      releaseAll(executor, uploaded);
    }
  };

  return {
    compileMs: () => made?.compileMs ?? 0,
    async run(uploads, onDevice) {
      const started = runOnce(uploads, onDevice);
      running.add(started);
      try {
        return await started;
      } finally {
        running.delete(started);
      }
    },
    async dispose() {
      const former = compiled;
      compiled = undefined;
      await Promise.allSettled(running);
      await (await former?.catch(() => undefined))?.dispose();
    },
  };
}

/** Values of an executor, by name. */
export type Values = Record<string, unknown>;

/** Uploads host tensors: all, or none if one is refused. */
export function uploadAll(executor: Executor, tensors: HostTensors): Values {
  const values: Values = {};
  try {
    for (const [name, tensor] of Object.entries(tensors)) values[name] = executor.upload(tensor);
  } catch (error) {
    releaseAll(executor, values);
    throw error;
  }
  return values;
}

/** Downloads values as host tensors. */
export async function downloadAll(executor: Executor, values: Values): Promise<HostTensors> {
  const tensors: HostTensors = {};
  for (const [name, value] of Object.entries(values)) tensors[name] = await executor.download(value);
  return tensors;
}

/** Releases values. */
export function releaseAll(executor: Executor, values: Values): void {
  for (const value of Object.values(values)) executor.release(value);
}

type Nested<T> = { readonly [name: string]: T | Nested<T> };

/** Replaces each leaf by its name in a flat record: its keys, joined by slashes. */
function keysOf(record: object, isLeaf: (value: unknown) => boolean, above = ''): Nested<string> {
  const entries = Object.entries(record as Record<string, unknown>).map(([name, value]) => {
    const key = `${above}${name}`;
    return [name, isLeaf(value) ? key : keysOf(value as object, isLeaf, `${key}/`)] as const;
  });
  return Object.fromEntries(entries);
}

/** Returns the leaves of a nested record, or of the given part of it, by their flat names. */
function flat<T>(record: Nested<T>, keys: Nested<string>, into: Record<string, T> = {}): Record<string, T> {
  for (const [name, key] of Object.entries(keys)) {
    const value = record[name];
    if (value === undefined) continue;
    if (typeof key === 'string') into[key] = value as T;
    else flat(value as Nested<T>, key, into);
  }
  return into;
}

/** Builds a nested record from flat names. */
function nested<T>(keys: Nested<string>, leaf: (key: string) => T): Nested<T> {
  return mapValues(keys, (key) => (typeof key === 'string' ? leaf(key) : nested(key, leaf)));
}

function isSpec(value: unknown): boolean {
  return Array.isArray((value as Partial<InputSpec>).shape);
}

/**
 * Lets the event loop handle what has arrived, such as the message of a button that stops the run: computations may
 * otherwise follow each other in microtasks, without a pause.
 *
 * Not `setTimeout`, which browsers delay by 4 ms, and by a second in hidden tabs, nor `scheduler.yield`, whose
 * continuation precedes other events.
 */
export function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    if (host.setImmediate) {
      host.setImmediate(resolve);
      return;
    }
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener('message', () => {
      port1.close();
      resolve();
    });
    port1.start();
    port2.postMessage(null);
  });
}

/** Node has `setImmediate`, browsers do not. */
const host = globalThis as { readonly setImmediate?: (resolve: () => void) => unknown };
