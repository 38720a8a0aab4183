import type { BackendReport } from '@peftjs/engine';
import { expect, it } from 'vitest';
import { verdictOf } from './doctor.js';

const yes = (executor: 'compiled' | 'eager', backend: string): BackendReport => ({
  executor,
  backend,
  available: true,
  gpu: 'none',
});
const broken: BackendReport = {
  executor: 'compiled',
  backend: 'cpu',
  available: false,
  gpu: 'none',
  reason: "Cannot find package 'onnxruntime-node' imported from /somewhere",
  install: 'npm install onnxruntime-node',
};

it.each([
  [
    [yes('compiled', 'cpu'), yes('compiled', 'cuda'), yes('eager', 'wasm')],
    3,
    true,
    /^Ready: 3 methods; compiled on cpu, cuda; eager on wasm\. To try it: npx peft-bench train/,
  ],
  [
    [broken, yes('eager', 'wasm')],
    3,
    true,
    /^Ready with --engine eager --backend wasm only: .*'onnxruntime-node'\); to repair it: npm install onnxruntime-node$/,
  ],
  [[broken], 3, false, /^Not ready: the default engine does not start .*npm install onnxruntime-node$/],
  [[yes('compiled', 'cpu')], 0, false, /^Not ready: no installed package offers a method; .*npm install/],
])('doctor starts with a verdict: case %#', (backends, methods, isReady, line) => {
  const verdict = verdictOf(backends, methods);
  expect(verdict.isReady).toBe(isReady);
  expect(verdict.line).toMatch(line);
});
