import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { Executor } from '@peftjs/core';
import { EngineError, mapValues, type HostTensor, type Tensors } from '@peftjs/core/method';
import type { CompiledFunction, PureFunction } from '@peftjs/core/runtime';

/**
 * The simplest executor: runs the pure function itself on TensorFlow.js's JavaScript backend. It is slow, and the
 * others are compared with it.
 */
export async function referenceExecutor(): Promise<Executor<Tensor>> {
  await referenceBackend();
  return {
    info: { executor: 'reference', backend: 'cpu', threads: 1 },
    upload: ({ data, shape, dtype }) => tf.tensor(data, [...shape], dtype),
    download: async (value) => ({
      dtype: value.dtype as HostTensor['dtype'],
      shape: value.shape,
      data: (await value.data()) as HostTensor['data'],
    }),
    release: (value) => {
      value.dispose();
    },
    compile: (fn) => Promise.resolve(compiledOf(fn)),
  };
}

/** Starts TensorFlow.js's JavaScript backend, for a test of one layer: `beforeAll(referenceBackend)`. */
export async function referenceBackend(): Promise<void> {
  tf.env().set('PROD', true); // keeps TensorFlow.js's start-up banner off stderr
  await tf.setBackend('cpu');
}

function compiledOf(fn: PureFunction): CompiledFunction<Tensor> {
  let isDisposed = false;
  const run = (inputs: Tensors): Tensors => {
    if (isDisposed) throw new EngineError('this compiled function was disposed');
    // Cloned, because the caller owns even an output that is an input or another output.
    return withoutReads(() => tf.tidy(() => mapValues(fn({ ...inputs }), (tensor) => tf.clone(tensor))));
  };
  return {
    compileMs: 0,
    run: (inputs) => Promise.resolve(inputs).then(run),
    dispose() {
      isDisposed = true;
      return Promise.resolve();
    },
  };
}

/**
 * Runs a function that may read no tensor, because executors that trace it have no numbers yet.
 * @throws EngineError if it does.
 */
function withoutReads<T>(run: () => T): T {
  const engine = tf.engine();
  const { read, readSync } = engine;
  const refuse = (): never => {
    throw new EngineError('a pure function reads a tensor, which has no numbers while it is traced; return it instead');
  };
  Object.assign(engine, { read: refuse, readSync: refuse });
  try {
    return run();
  } finally {
    Object.assign(engine, { read, readSync });
  }
}
