import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ShapeError, UnsupportedError } from './errors.js';
import {
  assertFullPrecision,
  isQuantized,
  quantized,
  quantizedBytes,
  quantizedFilling,
  quantizedModel,
  rowOf,
} from './quantized.js';
import { createRng } from './rng.js';
import { hostTensor, hostZeros, transposed, type HostTensor } from './tensors.js';
import { relativeDistance, toyModel } from '@peftjs/conformance';

/** Written by tools/golden/four_bits.py. */
const golden = JSON.parse(readFileSync(new URL('../test/fixtures/four-bits.json', import.meta.url), 'utf8')) as {
  readonly shape: number[];
  readonly rows: number[];
  readonly q41: { readonly bytes: number[]; readonly numbers: number[] };
  readonly nf4: number[];
};

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

describe('a weight in 4 bits', () => {
  const { rows, shape, q41, nf4 } = golden;
  const weight = transposed(hostTensor(Float32Array.from(rows), shape)); // [in, out]
  const held = quantized(weight, 'q4');
  const asRows = (matrix: HostTensor): number[] => [...transposed(matrix).data];

  it("has the bytes of GGUF's Q4_1", () => {
    expect([...held.parts.values.data]).toEqual(q41.bytes);
  });

  it("has the numbers of GGUF's Q4_1, whose scale and minimum are in half precision", () => {
    const steps = [...held.parts.scale.data].map((sixteenth) => 16 * sixteenth);
    asRows(held).forEach((value, at) => {
      const most = (steps[Math.floor(at / 32)] as number) / 16;
      expect(Math.abs(value - (q41.numbers[at] as number)), `number ${at}`).toBeLessThan(most);
    });
  });

  it("is nearer to the weight than bitsandbytes' NF4 in blocks of 64", () => {
    const error = (of: number[]) => relativeDistance(of, rows);
    expect(error(asRows(held))).toBeLessThan(error(nf4));
    expect(error(asRows(held))).toBeLessThan(1.02 * error(q41.numbers));
  });

  it('is the same when its outputs are added one after the other', () => {
    const [outputs = 0, width = 0] = shape;
    const { weight: filled, add } = quantizedFilling('q4', outputs, width);
    for (let at = 0; at < outputs; at++) add(Float32Array.from(rows.slice(at * width, (at + 1) * width)), at);
    expect(filled.parts).toEqual(held.parts);
  });

  it('holds zeros and rounds what it has rounded to the same numbers', () => {
    expect(new Set(quantized(hostZeros([32, 2]), 'q4').data)).toEqual(new Set([0]));
    const again = quantized(hostTensor(held.data as Float32Array, held.shape), 'q4');
    expect(relativeDistance(again.data, held.data)).toBeLessThan(1e-6);
  });

  it('takes as many bytes as announced', () => {
    for (const form of ['q4', 'q8', 'q8 rows'] as const) {
      const { parts } = quantized(weight, form);
      const bytes = Object.values({ ...parts }).reduce((sum, { data }) => sum + data.byteLength, 0);
      const [count = 0, width = 0] = form === 'q8 rows' ? weight.shape : shape;
      expect(quantizedBytes(form, count, width), form).toBe(bytes);
    }
  });
});

it('reads a row of a table in 8 bits without the others', () => {
  const table = quantized(weight, 'q8 rows');
  expect(table.parts.scale.shape).toEqual([ROWS, 1]);
  for (let row = 0; row < ROWS; row++) {
    expect(rowOf(table, row)).toEqual(table.data.slice(row * COLUMNS, (row + 1) * COLUMNS));
    expect(relativeDistance(rowOf(table, row), rowOf(weight, row))).toBeLessThan(0.01);
  }
});

describe('a model in 4 bits', () => {
  const model = toyModel();

  it('holds modules whose inputs fill no block in 8 bits, and its tables', () => {
    const held = quantizedModel(model, 'q4').weights;
    expect(held['embeddings.weight']).toMatchObject({ bits: 8 });
    for (const { path, kind, inFeatures } of model.sites) {
      if (kind !== 'linear' || path === 'classifier') continue;
      expect(held[`${path}.weight`], path).toMatchObject({ bits: inFeatures % 32 === 0 ? 4 : 8 });
    }
    expect(held['classifier.weight']).toBe(model.weights['classifier.weight']);
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
