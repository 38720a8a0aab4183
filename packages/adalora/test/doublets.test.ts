import { adalora, type AdaloraConfig } from '@peftjs/adalora';
import { onWarning } from '@peftjs/core';
import {
  createRng,
  floats,
  mapValues,
  tensorAt,
  type AdapterFile,
  type AdapterLayer,
  type HostTensors,
} from '@peftjs/core/method';
import { linearSite } from '@peftjs/core/model';
import { loraDelta, normalValues, pickColumns } from '@peftjs/core/linalg';
import {
  adapterValues,
  contextOf,
  controllerOf,
  forwardOf,
  hostVector,
  initialOf,
  layerOf,
  layersOf,
  referenceBackend,
  relativeDistance,
  tensorsOf,
} from '@peftjs/conformance';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';

const options: Partial<AdaloraConfig> = { parametrization: 'lora', initR: 3, targetR: 1, loraAlpha: 6 };
const sites = [linearSite('a', 4, 5), linearSite('b', 5, 4)];

beforeAll(() => onWarning((message) => expect.fail(message)));
beforeAll(referenceBackend);

const numbers = (tensor: tf.Tensor | undefined): number[] => [...(tensor ?? expect.fail('no tensor')).dataSync()];

/** Returns values like those after training, with this mask. */
const trainedOf = (layer: AdapterLayer, mask: readonly number[]): HostTensors => {
  const initial = initialOf(layer);
  const loraB = normalValues(createRng(3), tensorAt(initial, 'loraB').shape, 1);
  return { ...initial, loraB, mask: hostVector(mask) };
};

/** Returns an adapter of `sites`, with values by `<path>.<name>`. */
const adapterOf = (masks: Record<string, readonly number[]>) => {
  const config = adalora.parseConfig(options);
  const layers = layersOf(adalora, sites, config);
  const values = adapterValues(mapValues(layers, (layer, path) => trainedOf(layer, masks[path] ?? [])));
  return { config, layers, values };
};

const deltaOf = (layer: AdapterLayer, values: HostTensors, path: string): Float32Array => {
  const own = Object.fromEntries(
    ['loraA', 'loraB', 'mask'].map((name) => [name, tensorAt(values, `${path}.${name}`)] as const),
  );
  return loraDelta(layer.toLora?.(own) ?? expect.fail('toLora is missing'));
};

describe('the layer of doublets', () => {
  it('starts like LoRA, without singular values and without the orthogonality term', () => {
    const layer = layerOf(adalora, options, [100, 5]);
    expect(Object.keys(layer.params)).toEqual(['loraA', 'loraB']);
    expect(layer.loss).toBeUndefined();
    const { loraA, loraB } = initialOf(layer) as Record<'loraA' | 'loraB', HostTensors[string]>;
    expect(Math.max(...floats(loraA).map(Math.abs))).toBeLessThanOrEqual(0.1);
    expect(Math.max(...floats(loraA).map(Math.abs))).toBeGreaterThan(0.09);
    expect(floats(loraB).every((value) => value === 0)).toBe(true);
  });

  it('outputs what its live doublets give alone, with the scaling of the initial rank', () => {
    const layer = layerOf(adalora, options, [4, 5]);
    const values = trainedOf(layer, [0, 1, 1]);
    const x = tf.randomNormal([3, 4], 0, 1, 'float32', 1);
    const factors = layer.toLora?.(values) ?? expect.fail('toLora is missing');
    expect(factors.loraA).toEqual(pickColumns(tensorAt(values, 'loraA'), [1, 2]));
    expect(factors.scaling).toBe(6 / 3);
    expect([layer.rank?.(values), layer.storedParameters(values)]).toEqual([2, 2 * 9]);
    const y = forwardOf(layer, tensorsOf(values), x, tf.zeros([3, 5]));
    const folded = tf.matMul(x, tf.tensor(loraDelta(factors), [4, 5]));
    expect(relativeDistance(folded.dataSync(), y.dataSync())).toBeLessThan(1e-5);
  });

  it('scores a doublet as a triplet without its singular value: the mean over A and the mean over B', () => {
    const layer = layerOf(adalora, { ...options, initR: 2, importance: 'sensitivity' }, [2, 3]);
    const weights = {
      loraA: tf.tensor2d([1, 2, 3, -4], [2, 2]), // [in, r]
      loraB: tf.tensor2d([1, 0, -2, 1, 5, 1], [2, 3]), // [r, out]
    };
    const gradient = {
      loraA: tf.tensor2d([0.5, 1, -1, 0.25], [2, 2]),
      loraB: tf.tensor2d([1, 9, 0.5, -2, 0.2, 0], [2, 3]),
    };
    const previous = { ...tensorsOf(initialOf(layer)), ...weights };
    const ctx = contextOf({ scoring: 1, frozen: 0 });
    const changed = layer.update?.(previous, { previous, gradient, ctx }) ?? {};
    expect(Object.keys(changed)).toEqual(['importance']);
    [1.75 + 2 / 3, 1.5 + 1].forEach((score, rank) => expect(numbers(changed.importance)[rank]).toBeCloseTo(score, 5));
  });

  it('applies dropout to the input of A', () => {
    const layer = layerOf(adalora, { ...options, loraDropout: 0.5 }, [4, 5]);
    const ctx = { ...contextOf(), dropout: (_name: string, x: tf.Tensor) => tf.zerosLike(x) };
    const y = forwardOf(layer, tensorsOf(trainedOf(layer, [1, 1, 1])), tf.ones([1, 4]), tf.zeros([1, 5]), ctx);
    expect(layer.noise).toEqual(['loraDropout']);
    expect(numbers(y)).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('their allocation', () => {
  const plan = { totalSteps: 4, warmupSteps: 0, finalSteps: 1 };

  it('chooses among the remaining ones, so that none comes back', () => {
    const { config, layers } = adapterOf({});
    const controller = controllerOf(adalora, layers, config, plan);
    expect(controller.reads(1)).toEqual(['a.importance', 'a.mask', 'b.importance', 'b.mask']);
    const vector = (...of: number[]) => hostVector(of);
    const scores = { 'a.importance': vector(9, 8, 7), 'b.importance': vector(3, 2, 1) };
    const changes = controller.afterStep(3, { ...scores, 'a.mask': vector(0, 0, 0), 'b.mask': vector(1, 0, 1) });
    expect(Object.keys(changes?.values ?? {})).toEqual(['a.mask', 'b.mask']);
    expect([...tensorAt(changes?.values ?? {}, 'a.mask').data]).toEqual([0, 0, 0]);
    expect([...tensorAt(changes?.values ?? {}, 'b.mask').data]).toEqual([1, 0, 1]);
  });
});

describe('their files', () => {
  const adapter = adapterOf({ a: [0, 1, 1], b: [0, 0, 0] });

  it("are PEFT's LORA when pruned, without fully pruned modules", () => {
    const file = adalora.toFile(adapter, { pruned: true });
    expect(file.config).toMatchObject({ peft_type: 'LORA', r: 2, lora_alpha: 4, target_modules: ['a'] });
    expect(Object.keys(file.tensors)).toEqual(['a.lora_A.weight', 'a.lora_B.weight']);
    const { config, values } = adalora.fromFile(file);
    const again = layersOf(adalora, sites.slice(0, 1), config);
    expect(config).toMatchObject({ parametrization: 'lora', initR: 2, targetR: 2 });
    expect(deltaOf(tensorAt(again, 'a'), values, 'a')).toEqual(
      deltaOf(tensorAt(adapter.layers, 'a'), adapter.values, 'a'),
    );
  });

  it('hold what further training needs when not pruned: the remaining ranks, their places and the options', () => {
    const file = adalora.toFile(adapter, { pruned: false });
    expect(file.config).toMatchObject({
      peft_type: 'ADALORA',
      parametrization: 'lora',
      init_r: 3,
      rank_pattern: { 'a.lora_A': [false, true, true], 'b.lora_A': [false, false, false] },
    });
    expect(tensorAt(file.tensors, 'a.lora_A').shape).toEqual([2, 4]);
    const { config, values } = adalora.fromFile(file);
    expect(adalora.parseConfig(config)).toEqual({ ...adapter.config, targetModules: ['a', 'b'] });
    for (const path of ['a', 'b']) {
      const layer = tensorAt(adapter.layers, path);
      expect(values[`${path}.mask`]).toEqual(adapter.values[`${path}.mask`]);
      expect(deltaOf(layer, values, path)).toEqual(deltaOf(layer, adapter.values, path));
    }
  });

  it('of another LoRA, with its own ranks and alphas, give the same change of every weight', () => {
    const [rankA, rankB] = [1, 3];
    const drawn = (name: string, shape: number[]) => normalValues(createRng(1).fork(name), shape, 1);
    const file: AdapterFile = {
      config: { peft_type: 'LORA', r: rankB, lora_alpha: 6, rank_pattern: { a: rankA }, alpha_pattern: { a: 5 } },
      tensors: {
        'a.lora_A.weight': drawn('aA', [rankA, 4]),
        'a.lora_B.weight': drawn('aB', [5, rankA]),
        'b.lora_A.weight': drawn('bA', [rankB, 5]),
        'b.lora_B.weight': drawn('bB', [4, rankB]),
      },
    };
    const { config, values } = adalora.fromFile(file);
    const layers = layersOf(adalora, sites, config);
    expect(config).toMatchObject({ initR: 3, targetR: 3, targetModules: ['a', 'b'] });
    for (const [path, alpha, rank] of [
      ['a', 5, rankA],
      ['b', 6, rankB],
    ] as const) {
      const [b, a] = [tensorAt(file.tensors, `${path}.lora_B.weight`), tensorAt(file.tensors, `${path}.lora_A.weight`)];
      const { inFeatures, outFeatures } = tensorAt(layers, path).site;
      // dW^T = alpha / r B A, [out, in]
      const expected = tf.transpose(
        tf.mul(tf.matMul(tf.tensor(b.data, [outFeatures, rank]), tf.tensor(a.data, [rank, inFeatures])), alpha / rank),
      );
      const delta = deltaOf(tensorAt(layers, path), values, path);
      expect(relativeDistance(delta, expected.dataSync())).toBeLessThan(1e-6);
      expect([...tensorAt(values, `${path}.mask`).data]).toEqual([1, 1, 1].map((_, index) => (index < rank ? 1 : 0)));
    }
  });
});
