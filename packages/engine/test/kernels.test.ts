import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '@peftjs/core';
import { compiled, eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { quantized } from '../src/compiled/kernels/quantized.js';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { TRACE_BACKEND, traceBackend } from '../src/compiled/trace-backend.js';
import { distance, runOnce, withGradients } from './cases.js';
import type { Case } from './kernel-cases/case.js';
import { elementwise } from './kernel-cases/elementwise.js';
import { layers } from './kernel-cases/layers.js';
import { reductions } from './kernel-cases/reductions.js';
import { shape } from './kernel-cases/shape.js';
import { webgpu } from './webgpu.js';

const CASES = { ...elementwise, ...reductions, ...shape, ...layers };

/** Holds an executor's outputs and gradients against those of the cpu backend. */
async function compare(onnx: Executor<OrtTensor>, cpu: Executor<Tensor>, given: Case): Promise<void> {
  const { inputs, fn, gradients = [], tolerance = 1e-5 } = given;
  const whole = gradients.length === 0 ? fn : withGradients(fn, gradients);
  const expected = await runOnce(cpu, whole, inputs);
  const got = await runOnce(onnx, whole, inputs);
  const distances = Object.entries(expected).map(([name, tensor]) => [name, distance(got[name], tensor)] as const);
  expect(distances.filter(([, d]) => !(d <= tolerance))).toEqual([]);
  expect(Object.keys(got)).toEqual(Object.keys(expected));
}

describe('a compiled kernel gives the numbers of the cpu backend', () => {
  const onnx: Executor<OrtTensor> = compiled({ threads: 1 });
  const used = new Set<string>();
  let cpu: Executor<Tensor>;

  beforeAll(async () => {
    cpu = await eager({ backend: 'cpu' });
    traceBackend();
    for (const config of tf.getKernelsForBackend(TRACE_BACKEND)) {
      const run = config.kernelFunc;
      config.kernelFunc = (params) => {
        used.add(config.kernelName);
        return run(params);
      };
    }
  });

  it.each(Object.entries(CASES))('%s', async (_, given) => {
    await compare(onnx, cpu, given);
  });

  afterAll(() => {
    // Products of bytes have a test of their own: TensorFlow.js's backends know no bytes.
    const expected = Object.keys(kernelTable).filter((name) => !(name in quantized));
    expect(expected.filter((name) => !used.has(name))).toEqual([]);
  });
});

/** WebGPU promises the sine and cosine of a number to 2^-11 only; rotary takes its angles from them. */
const OF_SINES = /^(Sin|Cos|Tan|Acos|PeftRotary)$/;

describe.skipIf(webgpu.skipped !== undefined)(`and on WebGPU${webgpu.skipped ? ` (${webgpu.skipped})` : ''}`, () => {
  it.each(Object.entries(CASES))('%s', async (name, given) => {
    const tolerance = OF_SINES.test(name) ? 1e-3 : (given.tolerance ?? 1e-5);
    const onnx = webgpu.executor ?? expect.fail('there is no WebGPU');
    await compare(onnx, await eager({ backend: 'cpu' }), { ...given, tolerance });
  });
});
