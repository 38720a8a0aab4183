import type { BackendReport } from '@peftjs/engine';
import { expect, it } from 'vitest';
import { engineLines, verdictOf } from './doctor.js';

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

const ready = [yes('compiled', 'cpu'), yes('compiled', 'cuda'), yes('eager', 'wasm')];

it.each([
  ['a command to try if all is there', ready, 3, true, 'npx peft-bench train --task reviews'],
  ['the flags of what works', [broken, yes('eager', 'wasm')], 3, true, '--engine eager --backend wasm'],
  ['how to repair what works only in part', [broken, yes('eager', 'wasm')], 3, true, 'npm install onnxruntime-node'],
  ['how to install an engine', [broken], 3, false, 'npm install onnxruntime-node'],
  ['how to install methods', [yes('compiled', 'cpu')], 0, false, 'npm install peftjs'],
])('the verdict of doctor gives %s', (_, backends, methods, isReady, command) => {
  const verdict = verdictOf(backends, methods);
  expect(verdict.isReady).toBe(isReady);
  expect(verdict.line).toContain(command);
});

it('the list of engines names the backend that the eager one chooses by itself, if any works', () => {
  expect(engineLines([yes('eager', 'wasm'), yes('eager', 'cpu')]).at(-1)).toBe('yes  eager on auto (wasm)');
  expect(engineLines([broken])).toEqual([expect.stringMatching(/^no {3}compiled on cpu: /)]);
});
