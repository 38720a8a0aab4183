import { EAGER_BACKENDS, startBackend } from './eager/backends.js';
import type { BackendSource, EagerBackend } from './eager/backends.js';
import { importOptional } from './host.js';

/** Whether a backend of an executor is available on this machine. */
export interface BackendReport {
  /** The executor that computes with it. */
  readonly executor: 'compiled' | 'eager';
  /** The name of the backend: an ONNX Runtime execution provider, or a TensorFlow.js backend. */
  readonly backend: string;
  /** Whether the machine has what it needs. */
  readonly available: boolean;
  /**
   * `'none'`: it computes on the processor. `'used'`: it computes on a GPU. `'missing'`: it can, but is not available
   * or has found no GPU. A compiled backend is reported as `'used'` if its libraries are there: only starting it shows
   * whether there is a GPU.
   */
  readonly gpu: 'none' | 'used' | 'missing';
  /** Why it is not available, or, if it is, why it uses no GPU. */
  readonly reason?: string;
  /** The command that installs it, or, if it is available, what it lacks to use a GPU. */
  readonly install?: string;
}

/**
 * Lists every backend of both executors. An eager backend is available if it starts; a compiled one if its libraries
 * come with ONNX Runtime, with or without a GPU that they can use: to test for the GPU, compile something.
 */
export async function listBackends(): Promise<BackendReport[]> {
  const eager: BackendReport[] = [];
  for (const name of Object.keys(EAGER_BACKENDS) as EagerBackend[]) eager.push(await tried(name));
  return [...(await compiledBackends()), ...eager];
}

async function tried(backend: EagerBackend): Promise<BackendReport> {
  const { install, usesGpu }: BackendSource = EAGER_BACKENDS[backend];
  try {
    await startBackend(backend);
  } catch (error) {
    const gpu = usesGpu ? 'missing' : 'none';
    return { executor: 'eager', backend, available: false, gpu, reason: messageOf(error), install };
  }
  const found = { executor: 'eager', backend, available: true } as const;
  if (usesGpu === undefined) return { ...found, gpu: 'none' };
  if (usesGpu()) return { ...found, gpu: 'used' };
  return { ...found, gpu: 'missing', reason: 'it has started without a GPU', install };
}

interface RuntimeForNode {
  listSupportedBackends(): readonly { readonly name: string; readonly bundled: boolean }[];
}

async function compiledBackends(): Promise<BackendReport[]> {
  try {
    const runtime = (await importOptional('onnxruntime-node')) as RuntimeForNode;
    return runtime.listSupportedBackends().map(({ name, bundled }) => compiledReport(name, bundled));
  } catch (error) {
    const install = 'npm install onnxruntime-node';
    return [{ executor: 'compiled', backend: 'cpu', available: false, gpu: 'none', reason: messageOf(error), install }];
  }
}

function compiledReport(backend: string, isBundled: boolean): BackendReport {
  if (isBundled) return { executor: 'compiled', backend, available: true, gpu: backend === 'cpu' ? 'none' : 'used' };
  return {
    executor: 'compiled',
    backend,
    available: false,
    gpu: 'missing',
    reason: 'its libraries are no part of onnxruntime-node; its install script, which is off by default, brings them',
    install: 'npm rebuild onnxruntime-node --ignore-scripts=false',
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
