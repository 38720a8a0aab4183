import type { UserConfig } from 'vitepress';
import { isolation } from './isolation.js';

/** Vite options of the live page: builds packages from source, and serves ONNX Runtime's WebAssembly as files. */
export const vite: NonNullable<UserConfig['vite']> = {
  resolve: { conditions: ['@peftjs/source', 'onnxruntime-web-use-extern-wasm'] },
  worker: { format: 'es' },
  server: { headers: isolation },
  build: { target: 'es2022', chunkSizeWarningLimit: 2500 }, // the worker, the API page of a large package
};
