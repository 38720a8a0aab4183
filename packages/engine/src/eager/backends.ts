import * as tf from '@tensorflow/tfjs-core';
import { EngineError } from '@peftjs/core/method';
import { availableThreads, environment, importOptional, withoutCrashHandlers } from '../host.js';
import { withBackend } from '../tf-backends.js';
import { loadTensorFlow, TENSORFLOW_INSTALL, tensorFlowUsesGpu, tensorFlowVersions } from './tensorflow.js';
import { writeTransposesOut } from './wasm-products.js';

/** A TensorFlow.js backend that the eager executor can run on. */
export type EagerBackend = 'tensorflow' | 'webgpu' | 'wasm' | 'cpu';

/** How to load and start a TensorFlow.js backend. */
export interface BackendSource {
  /**
   * Registers the backend with TensorFlow.js. If this changes the process's current backend, the caller restores it.
   */
  load(): unknown;
  /** The number of threads that it computes with, once started. */
  threads(): Promise<number>;
  /** Versions of libraries that no package.json of peftjs names, once started. */
  versions?(): Record<string, string>;
  /** Whether it computes on a GPU, once started; only for a backend that can. */
  usesGpu?(): boolean;
  readonly install: string;
}

/** Backends, fastest first: the order in which 'auto' tries them. */
export const EAGER_BACKENDS: Readonly<Record<EagerBackend, BackendSource>> = {
  tensorflow: {
    load: loadTensorFlow,
    threads: () => Promise.resolve(Number(environment('TF_NUM_INTRAOP_THREADS')) || availableThreads()),
    versions: tensorFlowVersions,
    usesGpu: tensorFlowUsesGpu,
    install: TENSORFLOW_INSTALL,
  },
  webgpu: {
    load: () => importOptional('@tensorflow/tfjs-backend-webgpu'),
    threads: () => Promise.resolve(1),
    usesGpu: () => true,
    install: 'npm install @tensorflow/tfjs-backend-webgpu',
  },
  wasm: {
    load: () => import('@tensorflow/tfjs-backend-wasm'),
    threads: async () => (await import('@tensorflow/tfjs-backend-wasm')).getThreadsCount(),
    install: 'npm install @tensorflow/tfjs-backend-wasm',
  },
  cpu: {
    load: () => undefined,
    threads: () => Promise.resolve(1),
    install: 'npm install @tensorflow/tfjs-backend-cpu',
  },
};

/**
 * Starts a backend without making it the current one.
 *
 * @throws EngineError when it is not installed or does not start here.
 */
export async function startBackend(name: EagerBackend): Promise<void> {
  // The process must have its own backend first: a backend loaded later must not become the default.
  await tf.ready();
  const chosen = tf.getBackend();
  const { load, install } = EAGER_BACKENDS[name];
  try {
    await load();
    await withoutCrashHandlers(() => start(name));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EngineError(
      `the TensorFlow.js backend '${name}' does not start: ${reason}; to install it: ${install}`,
      name,
      cause,
    );
  } finally {
    if (tf.getBackend() !== chosen) await tf.setBackend(chosen);
  }
}

/** The backends that are starting. */
const starts = new Map<EagerBackend, Promise<tf.KernelBackend>>();

/**
 * Adds the backend to TensorFlow.js's registry by its own factory; `tf.setBackend` would make it the current one while
 * it starts.
 */
async function start(name: EagerBackend): Promise<void> {
  const { registry } = tf.engine();
  const factory = tf.findBackendFactory(name) as (() => tf.KernelBackend | Promise<tf.KernelBackend>) | null;
  if (factory === null) throw new EngineError('this platform does not support it');
  if (!registry[name]) {
    const starting = starts.get(name) ?? Promise.resolve(factory());
    starts.set(name, starting);
    registry[name] = await starting.finally(() => starts.delete(name));
  }
  if (name === 'cpu') withBackend(name, withoutBanner);
  if (name === 'wasm') writeTransposesOut();
}

/** Suppresses the banner that the cpu backend prints on its first write outside production mode. */
function withoutBanner(): void {
  const isProduction = tf.env().getBool('PROD');
  tf.env().set('PROD', true);
  tf.scalar(0).dispose();
  tf.env().set('PROD', isProduction);
}
