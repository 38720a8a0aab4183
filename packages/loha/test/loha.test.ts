import { hostTensor } from '@peftjs/core';
import { floats, tensorAt, type HostTensors, type Site } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, transposed } from '@peftjs/core/linalg';
import {
  contextOf,
  forwardOf,
  initialOf,
  layerOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import { loha } from '@peftjs/loha';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

beforeAll(referenceBackend);

/** A layer from [4] to [3] whose values are all nonzero. */
const layer = layerOf(loha, { r: 2, alpha: 3, initWeights: false, rankDropout: 0.5, moduleDropout: 0.5 }, [4, 3]);
const values = initialOf(layer);

/** Returns s (W1a W1b) * (W2a W2b), elementwise, in PEFT's layout [out, in]. */
function deltaOnDisk(): number[] {
  const at = (name: string, row: number, column: number): number => {
    const { data, shape } = transposed(tensorAt(values, name));
    return data[row * (shape[1] as number) + column] as number;
  };
  const product = (a: string, b: string, row: number, column: number): number =>
    [0, 1].reduce((sum, rank) => sum + at(a, row, rank) * at(b, rank, column), 0);
  return Array.from({ length: 12 }, (_, index) => {
    const [row, column] = [Math.floor(index / 4), index % 4];
    return 1.5 * product('hadaW1A', 'hadaW1B', row, column) * product('hadaW2A', 'hadaW2B', row, column);
  });
}

/** Returns the output for the rows of the identity, which is dW if nothing is dropped. */
function changeOf(dropout = (_name: string, x: tf.Tensor): tf.Tensor => x, training = true): number[] {
  const y = forwardOf(layer, tensorsOf(values), tf.eye(4), tf.zeros([4, 3]), { ...contextOf(), training, dropout });
  return [...y.dataSync()];
}

describe('the change of a weight', () => {
  const expected = [...transposed(hostTensor(Float32Array.from(deltaOnDisk()), [3, 4])).data];

  it('is the elementwise product of two low-rank matrices, scaled by alpha / r', () => {
    expect(relativeDistance(changeOf(), expected)).toBeLessThan(1e-6);
  });

  it('is a LoRA of rank r * r, exactly', () => {
    const factors = layer.toLora?.(values) ?? expect.fail('no factors');
    expect(factors.loraA.shape).toEqual([4, 4]);
    expect(relativeDistance([...loraDelta(factors)], expected)).toBeLessThan(1e-6);
  });

  it('is zero at the start, unless initialized at random', () => {
    expect(
      [...loraDelta(layerOf(loha).toLora?.(initialOf(layerOf(loha))) ?? expect.fail())].every((x) => x === 0),
    ).toBe(true);
    expect(floats(tensorAt(values, 'hadaW2B')).every((x) => x !== 0)).toBe(true);
  });
});

describe('dropout', () => {
  const whole = changeOf();
  const keep =
    (own: string, kept: number[]) =>
    (name: string, x: tf.Tensor): tf.Tensor =>
      name.endsWith(own) ? tf.mul(x, kept) : x;

  it('of outputs divides the kept ones by their share', () => {
    const dropped = changeOf(keep('rankDropout', [2, 0, 2])); // as inverted dropout scales
    expect(
      relativeDistance(
        dropped,
        whole.map((x, index) => (index % 3 === 1 ? 0 : 1.5 * x)),
      ),
    ).toBeLessThan(1e-6);
  });

  it('of every output leaves nothing; PEFT divides by zero here', () => {
    expect(changeOf(keep('rankDropout', [0, 0, 0]))).toEqual(whole.map(() => 0));
  });

  it('of the module leaves nothing, and does not scale a kept module', () => {
    expect(changeOf(keep('moduleDropout', [0]))).toEqual(whole.map(() => 0));
    expect(changeOf(keep('moduleDropout', [2]))).toEqual(whole);
  });

  it('does not apply in evaluation', () => {
    expect(changeOf(() => tf.zeros([1]), false)).toEqual(whole);
  });
});

it('stores two pairs of A and B, and meets a budget within 2 % by its ranks', () => {
  expect(layerOf(loha, { r: 3 }, [6, 10]).storedParameters({})).toBe(2 * 3 * 16);
  const sites: Site[] = Array.from({ length: 24 }, (_, index) => linearSite(`${index}.m`, 768, index % 2 ? 768 : 3072));
  for (const budget of [50_000, 200_000, 1_000_000]) {
    const config = loha.fitBudget?.(sites, budget, loha.parseConfig({})) ?? expect.fail('no budget');
    const kept = sites.filter(({ path }) => config.targetModules === null || config.targetModules.includes(path));
    const stored = Object.values(layersOf(loha, kept, config)).reduce(
      (sum, each) => sum + each.storedParameters({}),
      0,
    );
    expect(Math.abs(stored / budget - 1)).toBeLessThanOrEqual(0.02);
  }
});

describe('a file is rejected', () => {
  const own = transposedOnDisk(values);
  const config = { peft_type: 'LOHA', r: 2, alpha: 3 };

  it.each<[string, object, HostTensors, string]>([
    ['without a tensor', config, { ...own, 'm.hada_w2_a': undefined as never }, 'm.hada_w2_a'],
    [
      'with two ranks in a module',
      config,
      { ...own, 'm.hada_w2_a': hostTensor(new Float32Array(3), [3, 1]) },
      'm.hada_w2_a',
    ],
    ['without alpha', { ...config, alpha: undefined }, own, 'alpha'],
    ['without a module', config, {}, '.hada_w1_a'],
  ])('%s', (_, fields, tensors, path) => {
    expect(() => loha.fromFile({ config: { ...fields }, tensors })).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path }),
    );
  });
});

function transposedOnDisk(own: HostTensors): HostTensors {
  return {
    'm.hada_w1_a': transposed(tensorAt(own, 'hadaW1A')),
    'm.hada_w1_b': transposed(tensorAt(own, 'hadaW1B')),
    'm.hada_w2_a': transposed(tensorAt(own, 'hadaW2A')),
    'm.hada_w2_b': transposed(tensorAt(own, 'hadaW2B')),
  };
}
