import type { UserConfig } from 'vitepress';
import { isolation } from './isolation.js';

/** How the live page is built: the packages from their sources, ONNX Runtime's WebAssembly as files of the site. */
export const vite: NonNullable<UserConfig['vite']> = {
  resolve: { conditions: ['@peftjs/source', 'onnxruntime-web-use-extern-wasm'] },
  worker: { format: 'es' },
  server: { headers: isolation },
  build: { target: 'es2022', chunkSizeWarningLimit: 2500 }, // the worker, the API page of a large package
};
