import { Tensor } from '@tensorflow/tfjs-core';
import * as tf from '@tensorflow/tfjs-core';
import type { Executor } from '@peftjs/core';
import {
  ConfigError,
  describe,
  EngineError,
  parseOptions,
  warnOnce,
  type HostTensor,
  type Tensors,
} from '@peftjs/core/method';
import { anything } from '@peftjs/core/model';
import type { CompiledFunction, PureFunction } from '@peftjs/core/runtime';
import type { Specs } from '../axes.js';
import { checkFunction, checkHostTensor, checkInputs, checkOutputs, checkSpecs } from '../checks.js';
import { withBackend } from '../tf-backends.js';
import { EAGER_BACKENDS, startBackend } from './backends.js';
import type { BackendSource, EagerBackend } from './backends.js';

/** Options of {@link eager}. */
export interface EagerOptions {
  /** The TensorFlow.js backend. Default 'auto': the fastest that starts here. */
  readonly backend?: EagerBackend | 'auto';
}

/**
 * Creates the executor that runs a pure function op by op on a TensorFlow.js backend. It is slower than `compiled`, but
 * supports everything that TensorFlow.js does. The process's current backend stays the same.
 *
 * @throws ConfigError for an unknown backend.
 * @throws EngineError when the backend does not start here, with the command that installs it.
 */
export async function eager(options: EagerOptions = {}): Promise<Executor<Tensor>> {
  parseOptions('eager', { backend: anything } satisfies Record<keyof EagerOptions, unknown>, options);
  const backend = await startedBackend(options.backend ?? 'auto');
  const source: BackendSource = EAGER_BACKENDS[backend];
  const threads = await source.threads();
  const versions = source.versions?.();
  return {
    info: { executor: 'eager', backend, threads, ...(versions && { versions }) },
    upload(tensor) {
      checkHostTensor(tensor);
      return withBackend(backend, () => tf.keep(tf.tensor(tensor.data, [...tensor.shape], tensor.dtype)));
    },
    download,
    release(value) {
      value.dispose();
    },
    compile(fn, inputs, _constants, { gradientCheckpointing } = {}) {
      if (gradientCheckpointing) {
        warnOnce(
          'gradientCheckpointing has no effect with eager(): TensorFlow.js keeps what the backward pass reads; use compiled()',
        );
      }
      return Promise.resolve(inputs).then((specs) => prepared(backend, fn, specs));
    },
  };
}

/** Starts a backend, or the first that starts here. @throws the last one's error. */
async function startedBackend(name: EagerBackend | 'auto'): Promise<EagerBackend> {
  const names = Object.keys(EAGER_BACKENDS) as EagerBackend[];
  if (name !== 'auto' && !names.includes(name)) {
    throw new ConfigError(`backend must be 'auto', '${names.join("', '")}', got ${describe(name)}`, 'backend');
  }
  let refusal: unknown;
  for (const each of name === 'auto' ? names : [name]) {
    try {
      await startBackend(each);
      return each;
    } catch (error) {
      refusal = error;
    }
  }
  throw refusal;
}

function prepared(backend: EagerBackend, fn: PureFunction, specs: Specs): CompiledFunction<Tensor> {
  checkFunction(fn);
  checkSpecs(specs);
  let isDisposed = false;
  const run = (inputs: Tensors): Tensors => {
    if (isDisposed) throw new EngineError('this compiled function was disposed; compile it again');
    checkInputs(specs, inputs, specOf);
    const given = Object.fromEntries(Object.keys(specs).map((name) => [name, inputs[name] as Tensor]));
    return withBackend(backend, () => tf.tidy(() => owned(fn(given))));
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
 * Copies the outputs, so that the caller owns them even where the function returned an input; bools come out as int32,
 * as when compiled.
 */
function owned(outputs: Tensors): Tensors {
  checkOutputs(outputs);
  const own = (tensor: Tensor): Tensor =>
    tf.keep(tensor.dtype === 'bool' ? tf.cast(tensor, 'int32') : tf.clone(tensor));
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, own(tensor)]));
}

async function download(value: Tensor): Promise<HostTensor> {
  if (specOf(value) === undefined) throw new EngineError('this value was released; download it before you release it');
  const values = await value.data();
  const shape = [...value.shape];
  // TensorFlow.js casts to a wider type without converting the memory, so the array's class may not match the dtype.
  if (value.dtype === 'int32')
    return { dtype: 'int32', shape, data: values instanceof Int32Array ? values : Int32Array.from(values) };
  return { dtype: 'float32', shape, data: values instanceof Float32Array ? values : Float32Array.from(values) };
}

function specOf(value: Tensor): { dtype: string; shape: readonly number[] } | undefined {
  return value instanceof Tensor && !value.isDisposed ? value : undefined;
}
