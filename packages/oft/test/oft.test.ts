import { hostTensor, onWarning } from '@peftjs/core';
import type { HostTensor, Site } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { initialOf, layerOf, layersOf, referenceBackend, relativeDistance, tensorsOf } from '@peftjs/conformance';
import { oft, type OftConfig } from '@peftjs/oft';
import * as tf from '@tensorflow/tfjs-core';
import { Matrix } from 'ml-matrix';
import { beforeAll, describe, expect, it } from 'vitest';
import { blocksAt } from '../src/config.js';
import { projected, rotations, rotationsOnHost } from '../src/rotation.js';

beforeAll(referenceBackend);

const options = oft.parseConfig({});

/** Vectors for two blocks of three features. */
const vectors = (scale: number): HostTensor =>
  hostTensor(
    Float32Array.from([0.3, -0.2, 0.5, -0.4, 0.1, 0.2], (value) => scale * value),
    [2, 3],
  );

/** Returns the skew-symmetric matrices of `vectors`. */
function skew(scale: number): Matrix[] {
  const { data } = vectors(scale);
  return [0, 3].map((at) => {
    const [a = 0, b = 0, c = 0] = data.slice(at, at + 3);
    return new Matrix([
      [0, a, b],
      [-a, 0, c],
      [-b, -c, 0],
    ]);
  });
}

/** Returns R of both blocks, computed in the step and on the host. */
function both(scale: number, changed: Partial<OftConfig>): { step: number[]; rest: Matrix[] } {
  const own = { ...options, ...changed };
  const { v } = tensorsOf({ v: vectors(scale) });
  return {
    step: [...rotations(v as tf.Tensor, 3, own).dataSync()],
    rest: rotationsOnHost(vectors(scale), 3, own),
  };
}

const flat = (matrices: Matrix[]): number[] => matrices.flatMap((matrix) => matrix.to1DArray());

describe('the Cayley transform', () => {
  it.each([0, 1, 30, 300])('is (I - Q)(I + Q)^-1, and orthogonal, for entries of size %d', (scale) => {
    const { step, rest } = both(scale, { useCayleyNeumann: false });
    expect(relativeDistance(step, flat(rest))).toBeLessThan(2e-6 * (1 + scale));
    rest.forEach((r, block) => {
      const q = skew(scale)[block] as Matrix;
      const left = r.mmul(Matrix.add(Matrix.eye(3), q)).to1DArray();
      expect(relativeDistance(left, Matrix.sub(Matrix.eye(3), q).to1DArray())).toBeLessThan(1e-6);
      expect(relativeDistance(r.mmul(r.transpose()).to1DArray(), Matrix.eye(3).to1DArray())).toBeLessThan(1e-6);
    });
  });

  it('has the gradient of its closed form', () => {
    const { v } = tensorsOf({ v: vectors(1) });
    const towards = tf.randomNormal([2, 3, 3], 0, 1, 'float32', 1);
    const loss = (x: tf.Tensor) =>
      tf.sum(tf.mul(rotations(x, 3, { ...options, useCayleyNeumann: false }), towards)).asScalar();
    const gradient = tf
      .grad(loss)(v as tf.Tensor)
      .dataSync();
    const at = (place: number, shift: number): number => {
      const moved = vectors(1);
      moved.data[place] = (moved.data[place] as number) + shift;
      const r = flat(rotationsOnHost(moved, 3, { ...options, useCayleyNeumann: false }));
      return r.reduce((sum, value, index) => sum + value * (towards.dataSync()[index] as number), 0);
    };
    const slopes = [...gradient].map((_, place) => (at(place, 1e-3) - at(place, -1e-3)) / 2e-3);
    expect(relativeDistance([...gradient], slopes)).toBeLessThan(1e-3);
  });
});

describe("PEFT's series", () => {
  it.each([
    [2, [1, 2]],
    [3, [1, 2, 2, 1]],
    [4, [1, 2, 2, 1]], // the same as for three terms, as in PEFT 0.21.2
    [5, [1, 2, 2, 2, 1]],
    [7, [1, 2, 2, 2, 2, 2, 1]],
  ])('with %i terms has the factors %j of the powers of Q', (terms, factors) => {
    const { step, rest } = both(1, { numCayleyNeumannTerms: terms });
    const expected = skew(1).map((q) => {
      const sum = Matrix.zeros(3, 3);
      let power = Matrix.eye(3);
      for (const factor of factors) {
        sum.add(Matrix.mul(power, factor));
        power = power.mmul(q);
      }
      return sum;
    });
    expect(relativeDistance(step, flat(expected))).toBeLessThan(1e-6);
    expect(relativeDistance(flat(rest), flat(expected))).toBeLessThan(1e-6);
  });

  it('with many terms is the transform of -Q', () => {
    const series = both(0.3, { numCayleyNeumannTerms: 30 }).rest;
    const transform = both(-0.3, { useCayleyNeumann: false }).rest;
    expect(relativeDistance(flat(series), flat(transform))).toBeLessThan(1e-6);
  });
});

describe('COFT', () => {
  it('keeps the norm of each Q within eps / sqrt(blocks)', () => {
    const { v } = tensorsOf({ v: hostTensor(Float32Array.from([3, 0, 4, 0.03, 0, 0.04]), [2, 3]) });
    const radius = 1 / Math.SQRT2;
    const inside = projected(v as tf.Tensor, 1).dataSync();
    expect(Math.SQRT2 * Math.hypot(...inside.slice(0, 3))).toBeCloseTo(radius, 6);
    expect([...inside.slice(3)]).toEqual([...Float32Array.from([0.03, 0, 0.04])]);
  });

  it('projects initial values, the values of a step, and values from a file', () => {
    const layer = layerOf(oft, { oftBlockSize: 3, coft: true, eps: 0.1, initWeights: false });
    const norms = (values: ArrayLike<number>) =>
      [0, 3].map((at) => Math.SQRT2 * Math.hypot(...Array.from(values).slice(at, at + 3)));
    const radius = 0.1 / Math.SQRT2;
    for (const norm of norms(initialOf(layer).oftR?.data ?? [])) expect(norm).toBeLessThan(radius * (1 + 1e-6));
    const proposed = tensorsOf({ oftR: vectors(1) });
    const { oftR } = layer.update?.(proposed, undefined as never) ?? {};
    for (const norm of norms(oftR?.dataSync() ?? [])) expect(norm).toBeCloseTo(radius, 6);
    const config = { peft_type: 'OFT', oft_block_size: 3, coft: true, eps: 0.1 };
    const { values } = oft.fromFile({ config, tensors: { 'm.oft_R.weight': vectors(1) } });
    for (const norm of norms(values['m.oftR']?.data ?? [])) expect(norm).toBeCloseTo(radius, 6);
  });
});

describe('blocks', () => {
  it.each([
    [{ oftBlockSize: 4 }, 12, { count: 3, size: 4 }],
    [{ oftBlockSize: 5 }, 12, { count: 3, size: 4 }],
    [{ oftBlockSize: 32 }, 12, { count: 1, size: 12 }],
    [{ r: 3 }, 12, { count: 3, size: 4 }],
    [{ r: 5 }, 12, { count: 4, size: 3 }],
  ])('of %j in %i features are %j, as in PEFT', (given, features, expected) => {
    const warnings: string[] = [];
    const restore = onWarning((message) => warnings.push(message));
    expect(blocksAt(linearSite('m', features, 2), oft.parseConfig(given))).toEqual(expected);
    restore();
    expect(warnings).toHaveLength(Object.values(given).every((value) => features % value === 0) ? 0 : 1);
  });

  it('of one feature are rejected', () => {
    expect(() => blocksAt(linearSite('m', 7, 2), oft.parseConfig({ r: 7 }))).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'r' }),
    );
  });

  it.each([
    [{}, 2 * 3],
    [{ blockShare: true }, 3],
  ])('store the entries above their diagonals: %j', (given, stored) => {
    expect(layerOf(oft, { oftBlockSize: 3, ...given }).storedParameters({})).toBe(stored);
  });
});

describe('a budget', () => {
  const sites: Site[] = Array.from({ length: 24 }, (_, index) => linearSite(`${index}.m`, 768, 768));

  it.each([10_000, 36_864, 294_912])('of %i is met within 2 percent', (budget) => {
    const config = oft.fitBudget?.(sites, budget, options) ?? expect.fail('no budget');
    const kept = sites.filter(({ path }) => config.targetModules === null || config.targetModules.includes(path));
    const layers = Object.values(layersOf(oft, kept, config));
    const stored = layers.reduce((sum, layer) => sum + layer.storedParameters({}), 0);
    expect(Math.abs(stored / budget - 1)).toBeLessThanOrEqual(0.02);
  });

  it('that rotations of all features cannot fill is rejected with the largest possible one', () => {
    expect(() => oft.fitBudget?.(sites, 1e7, options)).toThrow(/OFT stores at most 7068672 parameters/);
  });
});

describe('a file is rejected', () => {
  const config = { peft_type: 'OFT', oft_block_size: 3, peft_version: '0.21.2' };

  it.each<[object, string]>([
    [{ oft_block_size: undefined }, 'oft_block_size'],
    [{ use_cayley_neumann: true, peft_version: undefined }, 'peft_version'],
    [{ use_cayley_neumann: true, peft_version: '0.17.1' }, 'peft_version'],
  ])('that PEFT computes differently: %j', (fields, path) => {
    expect(() => oft.fromFile({ config: { ...config, ...fields }, tensors: { 'm.oft_R.weight': vectors(1) } })).toThrow(
      expect.objectContaining({ code: 'PEFT_UNSUPPORTED', path }),
    );
  });

  it('without a rotation', () => {
    expect(() => oft.fromFile({ config, tensors: {} })).toThrow(/no tensor '<module>\.oft_R\.weight'/);
  });
});
