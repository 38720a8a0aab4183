import { addAdapter, attach, hostTensor, mergeAdapter, setAdapter } from '@peftjs/core';
import { tensorAt, type HostTensor, type Site } from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { transposed } from '@peftjs/core/linalg';
import {
  contextOf,
  forwardOf,
  initialOf,
  layerOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
  toyModel,
  toyOutputs,
} from '@peftjs/conformance';
import { lokr, type LokrConfig } from '@peftjs/lokr';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { factorization } from '../src/shapes.js';

beforeAll(referenceBackend);

it.each([
  [256, -1, [16, 16]],
  [128, -1, [8, 16]],
  [127, -1, [1, 127]],
  [128, 4, [4, 32]],
  [768, 32, [32, 24]],
  [12, 5, [3, 4]],
  [12, 2, [2, 6]],
])('%i with the factor %i is factored as in PEFT', (dimension, factor, expected) => {
  expect(factorization(dimension, factor)).toEqual(expected);
});

/** A module with sides m = 2, n = 3 and l = 2, k = 5. */
const OF: readonly [number, number] = [6, 10];

const layerWith = (options: Partial<LokrConfig>) => layerOf(lokr, { alpha: 3, initWeights: false, ...options }, OF);

describe.each<[string, Partial<LokrConfig>, string[]]>([
  ['whole factors', { r: 3 }, ['lokrW1', 'lokrW2']],
  ['a decomposed second factor', { r: 1 }, ['lokrW1', 'lokrW2A', 'lokrW2B']],
  ['one of rank 2', { r: 2 }, ['lokrW1', 'lokrW2A', 'lokrW2B']],
  [
    'two decomposed factors',
    { r: 1, decomposeBoth: true, decomposeFactor: 1 },
    ['lokrW1', 'lokrW2A', 'lokrW2B'], // W1 is a single number
  ],
])('%s', (_, options, names) => {
  const layer = layerWith(options);
  const values = initialOf(layer);

  it('are the tensors that PEFT has', () => {
    expect(Object.keys(layer.params)).toEqual(names);
  });

  it('change the weight by their Kronecker product, in the forward pass too', () => {
    const delta = hostTensor(
      layer.deltaWeight?.(values, { weight: hostTensor(new Float32Array(60), [...OF]) }) ?? expect.fail('no change'),
      [...OF],
    );
    const y = forwardOf(layer, tensorsOf(values), tf.eye(6), tf.zeros([...OF]), contextOf());
    expect(relativeDistance([...y.dataSync()], [...delta.data])).toBeLessThan(1e-6);
    if (names.includes('lokrW2')) {
      const [w1, w2] = [onDisk(tensorAt(values, 'lokrW1')), onDisk(tensorAt(values, 'lokrW2'))];
      const expected = w1.flatMap((row) => w2.map((other) => row.flatMap((a) => other.map((b) => a * b))));
      expect(relativeDistance(onDisk(delta).flat(), expected.flat())).toBeLessThan(1e-6); // alpha / r is 1
    }
  });
});

/** Returns the rows in torch's layout. */
function onDisk(tensor: HostTensor): number[][] {
  const { data, shape } = transposed(tensor);
  const [rows, columns] = shape as [number, number];
  return Array.from({ length: rows }, (_, row) => [...data.slice(row * columns, (row + 1) * columns)]);
}

it('both factors are decomposed if their longer sides are more than twice the rank', () => {
  const layer = layerOf(lokr, { r: 1, decomposeBoth: true, decomposeFactor: 4 }, [16, 16]);
  expect(Object.keys(layer.params)).toEqual(['lokrW1A', 'lokrW1B', 'lokrW2A', 'lokrW2B']);
});

it.each<[LokrConfig['initWeights'], string[]]>([
  [true, ['lokrW1']],
  ['lycoris', ['lokrW2B']],
  [false, []],
])('with initWeights %s the zeros are in %j', (initWeights, names) => {
  const values = initialOf(layerWith({ r: 1, initWeights }));
  expect(Object.keys(values).filter((name) => tensorAt(values, name).data.every((value) => value === 0))).toEqual(
    names,
  );
});

describe('dropout of outputs', () => {
  const changeOf = (rankDropoutScale: boolean, kept: number[]): number[] => {
    const layer = layerWith({ r: 1, rankDropout: 0.5, rankDropoutScale });
    const ctx = { ...contextOf(), dropout: (_name: string, x: tf.Tensor) => tf.mul(x, kept) };
    return [...forwardOf(layer, tensorsOf(initialOf(layer)), tf.eye(6), tf.zeros([...OF]), ctx).dataSync()];
  };
  const half = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1];
  const whole = changeOf(false, [1]);

  it.each([
    [false, 1],
    [true, 2],
  ])('scales kept outputs only with rankDropoutScale: %s', (scales, factor) => {
    const expected = whole.map((value, index) => factor * value * (half[index % 10] as number));
    expect(relativeDistance(changeOf(scales, half), expected)).toBeLessThan(1e-6);
  });
});

describe('a budget', () => {
  const sites: Site[] = Array.from({ length: 24 }, (_, index) => linearSite(`${index}.m`, 768, index % 3 ? 768 : 3072));

  it.each([5_000, 36_864, 294_912, 1_000_000])('of %i is met within 2 percent', (budget) => {
    const config = lokr.fitBudget?.(sites, budget, lokr.parseConfig({})) ?? expect.fail('no budget');
    const kept = sites.filter(({ path }) => config.targetModules === null || config.targetModules.includes(path));
    const layers = Object.values(layersOf(lokr, kept, config));
    const stored = layers.reduce((sum, layer) => sum + layer.storedParameters({}), 0);
    expect(Math.abs(stored / budget - 1)).toBeLessThanOrEqual(0.02);
  });

  it('that two whole factors cannot fill is rejected with the largest possible one', () => {
    expect(() => lokr.fitBudget?.(sites.slice(1, 2), 1e6, lokr.parseConfig({}))).toThrow(
      /stores at most 589825 parameters/,
    );
  });
});

describe('a file', () => {
  const tensors = {
    'm.lokr_w1': hostTensor(new Float32Array(4), [2, 2]),
    'm.lokr_w2': hostTensor(new Float32Array(15), [5, 3]),
  };
  const config = { peft_type: 'LOKR', r: 4, alpha: 2, rank_pattern: { m: 3 } };

  it('with whole factors has its ranks in the configuration', () => {
    expect(lokr.fromFile({ config, tensors }).config).toMatchObject({ r: 4, alpha: 2, rankPattern: { m: 3 } });
  });

  it.each([
    [{ ...config, r: undefined }, 'r'],
    [{ ...config, alpha: '2' }, 'alpha'],
    [{ ...config, rank_pattern: { m: 'three' } }, 'rank_pattern'],
  ])('without one of these fields is rejected: %j', (fields, path) => {
    expect(() => lokr.fromFile({ config: fields, tensors })).toThrow(
      expect.objectContaining({ code: 'PEFT_CHECKPOINT', path }),
    );
  });
});

it.each(['default', 'second'])('%s of two active adapters is merged apart, with the same outputs', async (name) => {
  const configured = lokr({ r: 1, initWeights: false, targetModules: ['query'] });
  const peft = attach(toyModel(), configured, { seed: 1 });
  addAdapter(peft, configured, { adapterName: 'second' });
  setAdapter(peft, ['default', 'second']);
  const before = await toyOutputs(peft);
  mergeAdapter(peft, { adapterNames: [name] });
  expect(relativeDistance(await toyOutputs(peft), before)).toBeLessThan(1e-5);
});
