import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { AdapterLayers } from '../contracts/layer.js';
import { linearSite } from '../contracts/site.js';
import { createRng } from '../rng.js';
import { tensorAt, type HostTensor } from '../tensors.js';
import { drawNoise, dropoutFrom, noiseKey, uniform } from './context.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const noisy = (path: string): AdapterLayers => ({
  [path]: {
    site: linearSite(path, 4, 4),
    params: {},
    noise: ['dropout'],
    forward: (_x, _p, at) => at.base(),
    storedParameters: () => 0,
  },
});

const drawn = (step: number, path = 'm'): HostTensor =>
  tensorAt(drawNoise(noisy(path), createRng(1).fork(String(step))), noiseKey(`${path}.dropout`));

const uniformAt = (step: number, rows: number, columns: number): Float32Array => {
  const { data, shape } = drawn(step);
  return tf.tidy(() => uniform(tf.tensor(data, [...shape]), rows, columns).dataSync() as Float32Array);
};

const mean = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, x) => sum + x, 0) / values.length;

/** The correlation of two lists of equal length. */
const correlation = (a: number[], b: number[]): number => {
  const [meanA, meanB] = [mean(a), mean(b)];
  const covariance = mean(a.map((x, index) => (x - meanA) * ((b[index] as number) - meanB)));
  const spread = (values: number[], centre: number): number => Math.sqrt(mean(values.map((x) => (x - centre) ** 2)));
  return covariance / (spread(a, meanA) * spread(b, meanB));
};

describe('uniform numbers of a step', () => {
  it('are (a . b mod p) / p in whole numbers, to the last bit', () => {
    const { data } = drawn(1);
    const [p, rows, columns] = [1021, 2100, 3];
    const point = (index: number): number[] => {
      const [low, high] = [index % p, Math.floor(index / p)];
      return [1, low, (low * low) % p, high];
    };
    const image = (index: number, offset: number): number[] =>
      [0, 1, 2, 3].map(
        (k) => point(index).reduce((sum, x, degree) => sum + x * (data[(offset + degree) * 4 + k] as number), 0) % p,
      );
    const values = uniformAt(1, rows, columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const [a, b] = [image(row, 0), image(column, 4)];
        const expected = a.reduce((sum, x, k) => sum + x * (b[k] as number), 0) % p;
        expect(values[row * columns + column]).toBe(Math.fround(expected / p));
      }
    }
  });

  it('have the mean, the variance and the independence of uniform numbers', () => {
    const [rows, columns] = [600, 400];
    const values = uniformAt(3, rows, columns);
    expect(mean(values)).toBeCloseTo(0.5, 2);
    expect(mean(values.map((x) => x * x))).toBeCloseTo(1 / 3, 2);
    const at = (row: number, column: number): number => values[row * columns + column] as number;
    const pairs = (dRow: number, dColumn: number): number => {
      const cells = Array.from({ length: (rows - 1) * (columns - 1) }, (_, cell) => cell);
      const place = (cell: number): [number, number] => [Math.floor(cell / (columns - 1)), cell % (columns - 1)];
      return correlation(
        cells.map(place).map(([row, column]) => at(row, column)),
        cells.map(place).map(([row, column]) => at(row + dRow, column + dColumn)),
      );
    };
    for (const correlated of [pairs(0, 1), pairs(1, 0), pairs(1, 1)]) expect(Math.abs(correlated)).toBeLessThan(0.02);
  });

  it('differ between steps and between layers, and repeat with the seed', () => {
    expect(drawn(1)).toEqual(drawn(1));
    expect(drawn(1)).not.toEqual(drawn(2));
    expect(drawn(1, 'm').data).not.toEqual(drawn(1, 'n').data);
  });
});

describe('dropout with drawn integers', () => {
  it('drops the requested share and scales the rest up', () => {
    const { data, shape } = drawn(5);
    const kept = tf.tidy(() => dropoutFrom(tf.tensor(data, [...shape]), tf.ones([512, 128]), 0.3).dataSync());
    const values = [...new Set(kept)].sort();
    expect(values[0]).toBe(0);
    expect(values[1]).toBeCloseTo(1 / 0.7, 2);
    expect(values).toHaveLength(2);
    expect(mean(kept)).toBeCloseTo(1, 2);
  });

  it('has a rate below 1 where one near 1 would round to it', () => {
    const { data, shape } = drawn(5);
    const kept = tf.tidy(() => dropoutFrom(tf.tensor(data, [...shape]), tf.ones([512, 128]), 0.9999).dataSync());
    expect(Math.max(...kept)).toBeCloseTo(1021, 2);
  });

  it('of the weights of attention keeps mean and variance in every head, and no two heads share a mask', () => {
    const [batch, heads, tokens, rate] = [8, 4, 32, 0.1];
    const { data, shape } = drawn(6);
    const rows = batch * heads * tokens;
    const masks = tf.tidy(() => dropoutFrom(tf.tensor(data, [...shape]), tf.ones([rows, tokens]), rate).dataSync());
    const ofHead = (head: number): number[] =>
      Array.from(masks).filter((_, place) => Math.floor(place / tokens ** 2) % heads === head);
    for (let head = 0; head < heads; head++) {
      expect(mean(ofHead(head))).toBeCloseTo(1, 1);
      expect(mean(ofHead(head).map((x) => (x - 1) ** 2))).toBeCloseTo(rate / (1 - rate), 1);
      expect(Math.abs(correlation(ofHead(head), ofHead((head + 1) % heads)))).toBeLessThan(0.03);
    }
    expect(mean(masks)).toBeCloseTo(1, 2);
  });
});
