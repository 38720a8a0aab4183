import { describe, expect, it } from 'vitest';
import { ShapeError, UnsupportedError } from './errors.js';
import { assertFullPrecision, isQuantized, quantized, quantizedModel } from './quantized.js';
import { createRng } from './rng.js';
import { hostTensor, hostZeros } from './tensors.js';
import { toyModel } from '@peftjs/conformance';

const [ROWS, COLUMNS] = [7, 5];
const rng = createRng(1);
const weight = hostTensor(
  Float32Array.from({ length: ROWS * COLUMNS }, () => rng.normal()),
  [ROWS, COLUMNS],
);

describe('a weight in 8 bits', () => {
  const held = quantized(weight);

  it('scales the largest weight of each output to 127', () => {
    for (let column = 0; column < COLUMNS; column++) {
      const own = Array.from(weight.data).filter((_, at) => at % COLUMNS === column);
      const integers = Array.from(held.parts.values.data).filter((_, at) => at % COLUMNS === column);
      expect(held.parts.scale.data[column]).toBeCloseTo(Math.max(...own.map(Math.abs)) / 127, 7);
      expect(Math.max(...integers.map(Math.abs))).toBe(127);
    }
  });

  it('reads as float32, off by at most half a step', () => {
    expect(held.dtype).toBe('float32');
    expect(held.shape).toEqual(weight.shape);
    held.data.forEach((value, at) => {
      const step = held.parts.scale.data[at % COLUMNS] as number;
      expect(Math.abs(value - (weight.data[at] as number))).toBeLessThanOrEqual(step * 0.5001);
    });
  });

  it('rounds what it has rounded to the same bytes', () => {
    expect(quantized({ dtype: 'float32', shape: held.shape, data: held.data }).parts.values.data).toEqual(
      held.parts.values.data,
    );
  });

  it('holds zeros', () => {
    const zeros = quantized(hostZeros([2, 3]));
    expect([...zeros.data]).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('is a matrix of floats', () => {
    expect(() => quantized(hostZeros([3]))).toThrow(ShapeError);
    expect(() => quantized({ dtype: 'int32', shape: [1, 1], data: Int32Array.of(1) })).toThrow(ShapeError);
  });
});

describe('a model in 8 bits', () => {
  const model = toyModel();
  const held = quantizedModel(model);

  it('holds its linear modules in 8 bits, but neither its head nor anything else', () => {
    for (const { path, kind } of model.sites) {
      const own = held.weights[`${path}.weight`];
      if (own === undefined) throw new Error(`no weight at ${path}`);
      expect(isQuantized(own), path).toBe(kind === 'linear' && path !== 'classifier');
      if (!isQuantized(own)) expect(own).toBe(model.weights[`${path}.weight`]);
    }
    expect(isQuantized(model.weights['layer.0.query.weight'] ?? hostZeros([1]))).toBe(false);
  });

  it('is distinguished from one with its own weights', () => {
    expect(() => {
      assertFullPrecision(model);
    }).not.toThrow();
    expect(() => {
      assertFullPrecision(held);
    }).toThrow(UnsupportedError);
  });
});
