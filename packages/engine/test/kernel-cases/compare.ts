import type { Tensor } from '@tensorflow/tfjs-core';
import { expect } from 'vitest';
import type { Executor } from '@peftjs/core';
import type { OrtTensor } from '@peftjs/engine';
import { distance, runOnce, withGradients } from '../cases.js';
import type { Case } from './case.js';
import { elementwise } from './elementwise.js';
import { layers } from './layers.js';
import { reductions } from './reductions.js';
import { shape } from './shape.js';

/** All cases, by name. */
export const CASES = { ...elementwise, ...reductions, ...shape, ...layers };

/** Compares an executor's outputs and gradients with those of the cpu backend. */
export async function compare(onnx: Executor<OrtTensor>, cpu: Executor<Tensor>, given: Case): Promise<void> {
  const { inputs, fn, gradients = [], tolerance = 1e-5 } = given;
  const whole = gradients.length === 0 ? fn : withGradients(fn, gradients);
  const expected = await runOnce(cpu, whole, inputs);
  const got = await runOnce(onnx, whole, inputs);
  const distances = Object.entries(expected).map(([name, tensor]) => [name, distance(got[name], tensor)] as const);
  expect(distances.filter(([, d]) => !(d <= tolerance))).toEqual([]);
  expect(Object.keys(got)).toEqual(Object.keys(expected));
}
