import type { Executor } from '@peftjs/core';
import { EngineError } from '@peftjs/core/method';
import { compiled, type OrtRuntime } from '@peftjs/engine';
import * as tf from '@tensorflow/tfjs';
import type { Env } from 'onnxruntime-common';
import type { Device } from './live-trainer.js';

/** More threads than this gain nothing on matrices of this size. */
const MAX_THREADS = 4;

const ONE_THREAD =
  'One thread: this address is served without the headers COOP and COEP that browsers ask for before they share memory ' +
  'between threads. Training takes longer; nothing else changes.';
const NO_WEBGPU = 'No WebGPU in this browser: the processor computes, through WebAssembly.';
const NO_GPU =
  'WebGPU without a GPU in this browser: the processor computes, through WebAssembly, which is faster there.';

/**
 * Opens WebGPU where this browser has it, else WebAssembly, with as many threads as it may have.
 * @param runtimeFiles address of the folder with ONNX Runtime's WebAssembly files, with a slash at its end
 * @throws EngineError, in one clear line, where neither starts.
 */
export async function openDevice(runtimeFiles: string): Promise<Device> {
  if (typeof WebAssembly === 'undefined') {
    throw new EngineError('This browser has no WebAssembly, or it is switched off: the page cannot train without it.');
  }
  const threads = availableThreads();
  const missing = await whyNoWebgpu();
  const notes = [...(missing === undefined ? [] : [missing]), ...(crossOriginIsolated ? [] : [ONE_THREAD])];
  if (missing === undefined) {
    try {
      return { backend: 'webgpu', threads, notes, executor: await onWebgpu(runtimeFiles, threads) };
    } catch (error) {
      notes.unshift(`WebGPU did not start (${messageOf(error)}): the processor computes, through WebAssembly.`);
    }
  }
  try {
    return { backend: 'wasm', threads, notes, executor: await onWasm(runtimeFiles, threads) };
  } catch (error) {
    throw new EngineError(
      `WebAssembly did not start here: ${messageOf(error)}. A current browser, with some memory free, can train.`,
      undefined,
      error,
    );
  }
}

/** Threads to compute with: one core is left to the page. */
function availableThreads(): number {
  if (!crossOriginIsolated) return 1;
  return Math.max(1, Math.min(MAX_THREADS, navigator.hardwareConcurrency - 1));
}

/** A GPU as a browser offers it; a fallback is the processor, which plays one. */
interface GpuAdapter {
  readonly info?: { readonly isFallbackAdapter?: boolean };
}

/** Why there is no WebGPU here; undefined where there is. */
async function whyNoWebgpu(): Promise<string | undefined> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<GpuAdapter | null> } };
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) return NO_WEBGPU;
  return adapter.info?.isFallbackAdapter ? NO_GPU : undefined;
}

async function onWebgpu(runtimeFiles: string, threads: number): Promise<Executor> {
  const runtime = prepared(await import('onnxruntime-web/webgpu'), runtimeFiles, threads);
  return tried(compiled({ runtime, threads, executionProviders: ['webgpu'] }));
}

async function onWasm(runtimeFiles: string, threads: number): Promise<Executor> {
  const runtime = prepared(await import('onnxruntime-web/wasm'), runtimeFiles, threads);
  return tried(compiled({ runtime, threads }));
}

/** ONNX Runtime takes its files from the site, never from its makers' host. */
function prepared<R extends OrtRuntime & { readonly env: Env }>(runtime: R, files: string, threads: number): R {
  Object.assign(runtime.env.wasm, { wasmPaths: files, numThreads: threads });
  return runtime;
}

/** The executor, once it has computed something. @throws EngineError when it cannot. */
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
