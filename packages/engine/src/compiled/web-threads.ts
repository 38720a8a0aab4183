/**
 * The threads of ONNX Runtime for WebAssembly. All sessions of a runtime share them, and the first session fixes their
 * number: `env.wasm.numThreads`.
 */
import { warnOnce } from '@peftjs/core/method';
import { availableThreads, isIsolated, isPage } from '../host.js';
import type { OrtRuntime } from './runtime.js';

/**
 * The most milliseconds that the start of the runtime's threads may take in a page, its download included: ONNX Runtime
 * waits forever for a thread whose script the browser refuses to load.
 */
const LONGEST_START = 300_000;

/**
 * Sets the number of a runtime's threads and returns it: 1 in a page that lacks what several threads need, with a
 * warning if a number was set or the page is cross-origin isolated.
 * @param asked default: the number that the page has set, else all cores
 */
export function webThreads({ env }: OrtRuntime, asked: number | undefined): number {
  const flags = env?.wasm;
  if (!flags) return asked ?? availableThreads();
  const set = flags.numThreads || undefined;
  const wanted = asked ?? set ?? availableThreads();
  const lacking = wanted > 1 && isPage() ? whatLacks(flags) : undefined;
  if (lacking !== undefined) {
    const isWanted = asked !== undefined || set !== undefined || isIsolated();
    if (isWanted) warnOnce(`compiled: one thread instead of ${wanted}: ${lacking}`);
    return (flags.numThreads = 1);
  }
  if (set !== undefined && set !== wanted) {
    warnOnce(
      `compiled: ${set} thread${set === 1 ? '' : 's'} instead of ${wanted}: all sessions of a runtime share its env.wasm.numThreads, which is already ${set}`,
    );
    return set;
  }
  if (wanted > 1 && isPage()) flags.initTimeout ||= LONGEST_START;
  return (flags.numThreads = wanted);
}

/** What a page lacks to compute with several threads; undefined if it has everything. */
function whatLacks({ wasmPaths }: WasmFlags): string | undefined {
  if (!isIsolated()) {
    return 'serve the page with the headers "Cross-Origin-Opener-Policy: same-origin" and "Cross-Origin-Embedder-Policy: require-corp", without which browsers share no memory between threads';
  }
  // A thread of a bundled runtime would start the page's own program, and never answer.
  if (wasmPaths === undefined || (typeof wasmPaths === 'object' && !wasmPaths.mjs)) {
    return "set the runtime's env.wasm.wasmPaths to the address of a folder with the files ort-wasm-*.mjs and ort-wasm-*.wasm of onnxruntime-web/dist, from which its threads start";
  }
  return undefined;
}

type WasmFlags = NonNullable<NonNullable<OrtRuntime['env']>['wasm']>;
