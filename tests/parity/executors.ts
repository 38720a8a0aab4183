import type { Executor } from '@peftjs/core';
import { compiled, eager, type OrtRuntime } from '@peftjs/engine';

/** Largest ||a - b|| / ||b|| of any tensor against the reference executor. */
export interface Tolerance {
  readonly outputs: number;
  readonly gradients: number;
  /** Values and both moments after the steps, and the losses on the way. */
  readonly steps: number;
}

/** An executor on one of its backends. */
interface ParityExecutor {
  readonly name: string;
  readonly tolerance: Tolerance;
  /** All cases, or for a slow one one of each family of methods and of networks. */
  readonly cases: 'all' | 'one of each family';
  /** Whether it takes what a machine may lack. It is then skipped by name, with the reason. */
  readonly isOptional?: boolean;
  /** @throws where something is lacking. */
  open(): Promise<Executor>;
}

/** The same numbers to the bit. */
const exact: Tolerance = { outputs: 0, gradients: 0, steps: 0 };
/** float32 in another order of summation. */
const float32: Tolerance = { outputs: 5e-6, gradients: 1e-5, steps: 1e-4 };

/** Every executor that there is. One line is all that a new one takes. */
// prettier-ignore
const parityExecutors: readonly ParityExecutor[] = [
  { name: 'compiled on the CPU', tolerance: float32, cases: 'all', open: () => opened(compiled({ threads: 1 })) },
  { name: 'compiled on WebGPU', tolerance: float32, cases: 'one of each family', isOptional: true, open: () => opened(compiled({ threads: 1, executionProviders: ['webgpu'] })) },
  { name: 'compiled on WebAssembly', tolerance: float32, cases: 'one of each family', open: async () => opened(compiled({ threads: 1, runtime: await onnxruntimeWeb() })) },
  { name: 'eager on TensorFlow', tolerance: float32, cases: 'all', isOptional: true, open: () => eager({ backend: 'tensorflow' }) },
  { name: 'eager on WebAssembly', tolerance: float32, cases: 'all', open: () => eager({ backend: 'wasm' }) },
  { name: 'eager on the CPU', tolerance: exact, cases: 'one of each family', open: () => eager({ backend: 'cpu' }) },
];

/** An executor of this machine, or why it is skipped. */
export interface Found extends ParityExecutor {
  readonly executor?: Executor;
  readonly skipped?: string;
}

/** Those that every machine has, or those that it may lack, each tried. */
export async function findExecutors({ isOptional }: { readonly isOptional: boolean }): Promise<Found[]> {
  const found: Found[] = [];
  for (const candidate of parityExecutors) {
    if ((candidate.isOptional ?? false) === isOptional) found.push(await tried(candidate));
  }
  return found;
}

/** One of them by its name. */
export async function findExecutor(name: string): Promise<Found> {
  const candidate = parityExecutors.find((executor) => executor.name === name);
  if (!candidate) throw new RangeError(`there is no executor '${name}'`);
  return tried(candidate);
}

async function tried(candidate: ParityExecutor): Promise<Found> {
  try {
    return { ...candidate, executor: await candidate.open() };
  } catch (error) {
    if (!candidate.isOptional) throw error;
    const [reason = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    return { ...candidate, skipped: reason };
  }
}

/** What it needs is only found out by compiling something. */
async function opened(executor: Executor): Promise<Executor> {
  const { run, dispose } = await executor.compile(({ x }) => ({ y: x as never }), {
    x: { dtype: 'float32', shape: [1] },
  });
  const x = executor.upload({ dtype: 'float32', shape: [1], data: Float32Array.of(1) });
  const { y } = await run({ x });
  for (const value of [x, y]) executor.release(value);
  await dispose();
  return executor;
}

/** ONNX Runtime of a page, with one thread like all of them. */
async function onnxruntimeWeb(): Promise<OrtRuntime> {
  const runtime = await import('onnxruntime-web');
  runtime.env.wasm.numThreads = 1;
  return runtime;
}
