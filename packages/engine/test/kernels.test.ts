import * as tf from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Executor } from '@peftjs/core';
import { compiled, eager } from '@peftjs/engine';
import type { OrtTensor } from '@peftjs/engine';
import { attention } from '../src/compiled/kernels/attention.js';
import { quantized } from '../src/compiled/kernels/quantized.js';
import { kernelTable } from '../src/compiled/kernels/table.js';
import { traceBackendName } from '../src/compiled/trace-backend.js';
import { CASES, compare } from './kernel-cases/compare.js';

describe('a compiled kernel gives the numbers of the cpu backend', () => {
  const onnx: Executor<OrtTensor> = compiled({ threads: 1 });
  const used = new Set<string>();
  let cpu: Executor<Tensor>;

  beforeAll(async () => {
    cpu = await eager({ backend: 'cpu' });
    for (const config of tf.getKernelsForBackend(traceBackendName(kernelTable))) {
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
    // quantized.test.ts and attention.test.ts cover these: TensorFlow.js's backends have no byte type, and no long texts.
    const expected = Object.keys(kernelTable).filter((name) => !(name in quantized || name in attention));
    expect(expected.filter((name) => !used.has(name))).toEqual([]);
  });
});
