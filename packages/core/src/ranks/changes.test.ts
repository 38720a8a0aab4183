import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { trained, type AdapterLayer } from '../contracts/layer.js';
import { linearSite } from '../contracts/site.js';
import { hostTensor, tensorAt, type HostTensor } from '../tensors.js';
import { changeRanks, allocatedRanks, keepRanks, rankedPaths, withRankCounts, withResized } from './changes.js';

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

const matrix = (rows: number[][]): HostTensor =>
  hostTensor(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]);
const vector = (...values: number[]): HostTensor => hostTensor(Float32Array.from(values), [values.length]);

/** A layer [2, 3] of three ranks. */
const layerAt = (path: string): AdapterLayer => ({
  site: linearSite(path, 2, 3),
  params: {
    loraA: trained(
      matrix([
        [1, 2, 3],
        [4, 5, 6],
      ]),
    ),
    gate: { initial: vector(7, 8, 9), trainable: true, group: 'gate', decay: false },
    loraB: trained(
      matrix([
        [1, 1, 1],
        [2, 2, 2],
        [3, 3, 3],
      ]),
    ),
  },
  state: { mask: { initial: vector(1, 0, 1) } },
  noise: ['dropout'],
  forward: (_x, _p, at) => tf.add(at.base(), 1),
  toLora: ({ loraA, loraB }) => ({ loraA: loraA as HostTensor, loraB: loraB as HostTensor, scaling: 0.75 }),
  storedParameters: () => 5,
  rank: () => 1,
});

const layers = { a: layerAt('a'), b: layerAt('b') };

describe('a layer of fewer ranks', () => {
  const resized = keepRanks(layers, { a: [2, 0], b: [0, 1, 2] });
  const { layer, carry } = tensorAt(resized, 'a');

  it('has the given ranks, in that order, in every tensor, and is otherwise the same', () => {
    expect(layer.params.loraA?.initial).toEqual(
      matrix([
        [3, 1],
        [6, 4],
      ]),
    );
    expect(layer.params.loraB?.initial).toEqual(
      matrix([
        [3, 3, 3],
        [1, 1, 1],
      ]),
    );
    expect(layer.params.gate).toEqual({ initial: vector(9, 7), trainable: true, group: 'gate', decay: false });
    expect(layer.state?.mask?.initial).toEqual(vector(1, 1));
    const { forward, toLora, noise } = layers.a;
    expect(layer).toMatchObject({ forward, toLora, noise });
    expect(allocatedRanks(layer)).toBe(2);
  });

  it('carries moments and scores over by the name of their tensor', () => {
    const scores = matrix([
      [10, 20, 30],
      [40, 50, 60],
    ]);
    expect(carry('score.loraA', scores, 'value')).toEqual(
      matrix([
        [30, 10],
        [60, 40],
      ]),
    );
    expect(carry('score.loraB', matrix([[1], [2], [3]]), 'value')).toEqual(matrix([[3], [1]]));
    expect(carry('score.loraE', vector(1, 2, 3), 'gradient')).toEqual(vector(3, 1));
  });

  it('stays the same where every rank is kept', () => {
    expect(Object.keys(resized)).toEqual(['a']);
    expect(withResized(layers, resized)).toEqual({ a: layer, b: layers.b });
    expect(withResized(layers)).toEqual(layers);
  });
});

describe('a layer with new ranks', () => {
  const added = { loraA: matrix([[8], [9]]), gate: vector(1), loraB: matrix([[0, 0, 0]]), mask: vector(1) };
  const resized = changeRanks(layers, { a: { kept: [1], added }, b: { kept: [0, 1, 2] } });
  const { layer, carry } = tensorAt(resized, 'a');

  it('appends them in every tensor', () => {
    expect(Object.keys(resized)).toEqual(['a']);
    expect(layer.params.loraA?.initial).toEqual(
      matrix([
        [2, 8],
        [5, 9],
      ]),
    );
    expect(layer.params.loraB?.initial).toEqual(
      matrix([
        [2, 2, 2],
        [0, 0, 0],
      ]),
    );
    expect([layer.params.gate?.initial, layer.state?.mask?.initial]).toEqual([vector(8, 1), vector(0, 1)]);
  });

  it('starts them with moments of zero', () => {
    expect(carry('gate', vector(4, 5, 6), 'gradient')).toEqual(vector(5, 0));
    expect(carry('gate', vector(4, 5, 6), 'value')).toEqual(vector(5, 1));
  });
});

describe('a layer that has lost every rank', () => {
  const left = withResized(layers, keepRanks(layers, { a: [] }));
  const bare = tensorAt(left, 'a');

  it('has no tensors and no noise, stores nothing, and outputs what the frozen module does', () => {
    expect(rankedPaths(left)).toEqual(['b']);
    expect([bare.params, bare.state, bare.noise, bare.update, bare.loss]).toEqual([{}, ...Array<undefined>(4)]);
    expect([bare.storedParameters({}), bare.rank?.({})]).toEqual([0, 0]);
    const base = tf.tensor2d([[1, 2, 3]]);
    const y = bare.forward(tf.zeros([1, 2]), {}, { base: () => base } as Parameters<AdapterLayer['forward']>[2]);
    expect(y).toBe(base);
  });

  it('is a change of rank zero with its old scaling', () => {
    expect(bare.toLora?.({})).toEqual({
      loraA: hostTensor(new Float32Array(0), [2, 0]),
      loraB: hostTensor(new Float32Array(0), [0, 3]),
      scaling: 0.75,
    });
  });
});

describe('withRankCounts', () => {
  it('keeps the given number of ranks, in the order of the layers', () => {
    expect(Object.values(withRankCounts(layers, [1, 3])).map(allocatedRanks)).toEqual([1, 3]);
    expect(Object.values(withRankCounts(layers, [0, 2])).map(allocatedRanks)).toEqual([0, 2]);
  });

  it('rejects layers with fewer ranks', () => {
    expect(() => withRankCounts(layers, [3, 4])).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path: 'b' }),
    );
  });
});
