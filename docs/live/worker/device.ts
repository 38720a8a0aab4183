import type { Executor } from '@peftjs/core';
import { EngineError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import * as tf from '@tensorflow/tfjs-core';
import type { Device } from './live-trainer.js';

/** More threads do not speed up matrices of this size. */
const MAX_THREADS = 4;

const ONE_THREAD =
  'One thread: this address is served without the headers COOP and COEP that browsers require for threads. ' +
  'Training takes longer; nothing else changes.';
const NO_WEBGPU = 'No WebGPU in this browser: training runs on the CPU, through WebAssembly.';
const NO_GPU =
  'WebGPU without a GPU in this browser: training runs on the CPU, through WebAssembly, which beats a software GPU.';

/**
 * Opens WebGPU if the browser has a GPU, otherwise WebAssembly with as many threads as allowed.
 * @param runtimeFiles address of the folder with ONNX Runtime's WebAssembly files, with a slash at its end
 * @throws EngineError if neither starts
 */
export async function openDevice(runtimeFiles: string): Promise<Device> {
  if (typeof WebAssembly === 'undefined') {
    throw new EngineError('This browser has no WebAssembly, or it is disabled, and training needs it.');
  }
  const missing = await whyNoWebgpu();
  const notes = [...(missing === undefined ? [] : [missing]), ...(crossOriginIsolated ? [] : [ONE_THREAD])];
  if (missing === undefined) {
    try {
      return deviceOf('webgpu', notes, await onWebgpu(runtimeFiles));
    } catch (error) {
      notes.unshift(`WebGPU did not start (${messageOf(error)}): training runs on the CPU, through WebAssembly.`);
    }
  }
  try {
    return deviceOf('wasm', notes, await onWasm(runtimeFiles));
  } catch (error) {
    throw new EngineError(
      `WebAssembly did not start here: ${messageOf(error)}. Use a current browser, and free some memory.`,
      undefined,
      error,
    );
  }
}

function deviceOf(backend: Device['backend'], notes: readonly string[], executor: Executor): Device {
  return { backend, threads: executor.info.threads, notes, executor };
}

/** The number of threads to compute with. */
function availableThreads(): number {
  return crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
}

/** A browser's GPU adapter; a fallback adapter is software on the CPU. */
interface GpuAdapter {
  readonly info?: { readonly isFallbackAdapter?: boolean };
}

/** Why WebGPU cannot be used; undefined if it can. */
async function whyNoWebgpu(): Promise<string | undefined> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<GpuAdapter | null> } };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) return NO_WEBGPU;
  return adapter.info?.isFallbackAdapter ? NO_GPU : undefined;
}

async function onWebgpu(runtimeFiles: string): Promise<Executor> {
  const runtime = await import('onnxruntime-web/webgpu');
  runtime.env.wasm.wasmPaths = runtimeFiles;
  return tried(compiled({ runtime, threads: availableThreads(), executionProviders: ['webgpu'] }));
}

async function onWasm(runtimeFiles: string): Promise<Executor> {
  const runtime = await import('onnxruntime-web/wasm');
  runtime.env.wasm.wasmPaths = runtimeFiles;
  return tried(compiled({ runtime, threads: availableThreads() }));
}

/** Returns the executor after a test computation. @throws EngineError if the result is wrong */
async function tried(executor: Executor): Promise<Executor> {
  const x = executor.upload({ dtype: 'float32', shape: [2], data: Float32Array.of(1, 2) });
  const double = await executor.compile(({ x }) => ({ y: tf.mul(x as tf.Tensor, 2) }), {
    x: { dtype: 'float32', shape: [2] },
  });
  const { y } = await double.run({ x });
  const { data } = await executor.download(y);
  await double.dispose();
  if (data[1] === 4) return executor;
  throw new EngineError(`expected 2 x 2 to be 4, got ${data[1]}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
