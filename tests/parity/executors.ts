import type { Executor } from '@peftjs/core';
import { compiled, eager, type OrtRuntime } from '@peftjs/engine';
import { FLOAT32, type Tolerance } from '../../packages/cli/src/run/parity.js';

/** An executor with one of its backends. */
interface ParityExecutor {
  readonly name: string;
  readonly tolerance: Tolerance;
  /** What is tested: all cases or, on a slow executor, one of each family of methods and of networks. */
  readonly cases: 'all' | 'one of each family';
  /** Whether `npm test` tests it, with one case of each family; `npm run test:e2e` then does so only if there are more. */
  readonly inNpmTest?: boolean;
  /** Whether it needs something that a machine may lack. It is then skipped by name, with the reason. */
  readonly isOptional?: boolean;
  /** Starts it. @throws if something is missing. */
  open(): Promise<Executor>;
}

/** Bitwise equal numbers. */
const exact: Tolerance = { outputs: 0, gradients: 0, steps: 0 };

/** All executors. A new one only needs one line. */
// oxfmt-ignore
const parityExecutors: readonly ParityExecutor[] = [
  { name: 'compiled on the CPU', tolerance: FLOAT32, cases: 'all', inNpmTest: true, open: () => opened(compiled({ threads: 1 })) },
  { name: 'compiled on WebGPU', tolerance: FLOAT32, cases: 'one of each family', isOptional: true, open: () => opened(compiled({ threads: 1, executionProviders: ['webgpu'] })) },
  { name: 'compiled on WebAssembly', tolerance: FLOAT32, cases: 'one of each family', open: async () => opened(compiled({ threads: 1, runtime: await onnxruntimeWeb() })) },
  { name: 'eager on TensorFlow', tolerance: FLOAT32, cases: 'all', isOptional: true, open: () => eager({ backend: 'tensorflow' }) },
  { name: 'eager on WebAssembly', tolerance: FLOAT32, cases: 'all', open: () => eager({ backend: 'wasm' }) },
  { name: 'eager on the CPU', tolerance: exact, cases: 'one of each family', inNpmTest: true, open: () => eager({ backend: 'cpu' }) },
];

/** An executor of this machine, or the reason why it is skipped. */
export interface Found extends ParityExecutor {
  readonly executor?: Executor;
  readonly skipped?: string;
}

/** The executors that `npm test` or `npm run test:e2e` tests, each of them tried. */
export async function findExecutors(run: 'test' | 'e2e'): Promise<Found[]> {
  const found: Found[] = [];
  for (const candidate of parityExecutors) {
    const { cases, inNpmTest = false } = candidate;
    if (run === 'test' && inNpmTest) found.push({ ...(await tried(candidate)), cases: 'one of each family' });
    if (run === 'e2e' && !(inNpmTest && cases !== 'all')) found.push(await tried(candidate));
  }
  return found;
}

/** One executor by name. */
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

/** Compiles something, since only that shows whether its requirements are met. */
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

/** ONNX Runtime for pages, with one thread like all others. */
async function onnxruntimeWeb(): Promise<OrtRuntime> {
  const runtime = await import('onnxruntime-web');
  runtime.env.wasm.numThreads = 1;
  return runtime;
}
