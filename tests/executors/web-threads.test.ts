import { onWarning } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import * as runtime from 'onnxruntime-web';
import { afterEach, beforeEach, expect, it } from 'vitest';

const { wasm } = runtime.env;
const before = wasm.numThreads;
let warnings: string[];
let restore: () => void;

beforeEach(() => {
  warnings = [];
  restore = onWarning((message) => warnings.push(message));
  delete wasm.numThreads;
});
afterEach(() => {
  restore();
  if (before === undefined) delete wasm.numThreads;
  else wasm.numThreads = before;
});

const threadsOf = (threads?: number) => compiled({ runtime, ...(threads && { threads }) }).info.threads;

it('sets the threads of ONNX Runtime for WebAssembly, by default to all cores', () => {
  expect([threadsOf(3), wasm.numThreads]).toEqual([3, 3]);
  delete wasm.numThreads;
  expect([threadsOf(), wasm.numThreads]).toEqual([compiled().info.threads, compiled().info.threads]);
  expect(warnings).toEqual([]);
});

it('keeps the number that is already set, and says so if it is asked for another', () => {
  wasm.numThreads = 2;
  expect([threadsOf(), threadsOf(2), warnings]).toEqual([2, 2, []]);
  expect([threadsOf(3), wasm.numThreads]).toEqual([2, 2]);
  expect(warnings).toEqual([
    expect.stringMatching(/^compiled: 2 threads instead of 3: .*numThreads, which is already 2$/),
  ]);
});
