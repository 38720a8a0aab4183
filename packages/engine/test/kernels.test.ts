import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '@peftjs/core';
import { compiled, eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { TRACE_BACKEND, traceBackend } from '../src/compiled/trace-backend.js';
import { distance, runOnce, withGradients } from './cases.js';
import { elementwise } from './kernel-cases/elementwise.js';
import { layers } from './kernel-cases/layers.js';
import { reductions } from './kernel-cases/reductions.js';
import { shape } from './kernel-cases/shape.js';

const CASES = { ...elementwise, ...reductions, ...shape, ...layers };

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

  it.each(Object.entries(CASES))('%s', async (_, { inputs, fn, gradients = [], tolerance = 1e-5 }) => {
    const whole = gradients.length === 0 ? fn : withGradients(fn, gradients);
    const expected = await runOnce(cpu, whole, inputs);
    const got = await runOnce(onnx, whole, inputs);
    const distances = Object.entries(expected).map(([name, tensor]) => [name, distance(got[name], tensor)] as const);
    expect(distances.filter(([, d]) => !(d <= tolerance))).toEqual([]);
    expect(Object.keys(got)).toEqual(Object.keys(expected));
  });

  afterAll(() => {
    expect(Object.keys(kernelTable).filter((name) => !used.has(name))).toEqual([]);
  });
});
