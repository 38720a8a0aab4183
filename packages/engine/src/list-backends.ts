import { EAGER_BACKENDS, startBackend } from './eager/backends.js';
import type { EagerBackend } from './eager/backends.js';
import { importOptional } from './host.js';

/** Whether a backend of an executor is available on this machine. */
export interface BackendReport {
  /** The executor that computes with it. */
  readonly executor: 'compiled' | 'eager';
  /** The name of the backend: an ONNX Runtime execution provider, or a TensorFlow.js backend. */
  readonly backend: string;
  /** Whether the machine has what it needs. */
  readonly available: boolean;
  /** Why it is not available. */
  readonly reason?: string;
  /** The command that installs it, if it is not available. */
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
  try {
    await startBackend(backend);
    return { executor: 'eager', backend, available: true };
  } catch (error) {
    return {
      executor: 'eager',
      backend,
      available: false,
      reason: messageOf(error),
      install: EAGER_BACKENDS[backend].install,
    };
  }
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
    return [{ executor: 'compiled', backend: 'cpu', available: false, reason: messageOf(error), install }];
  }
}

function compiledReport(backend: string, isBundled: boolean): BackendReport {
  if (isBundled) return { executor: 'compiled', backend, available: true };
  return {
    executor: 'compiled',
    backend,
    available: false,
    reason: 'its libraries are not part of onnxruntime-node; its install script, off by default, downloads them',
    install: 'npm rebuild onnxruntime-node --ignore-scripts=false',
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
