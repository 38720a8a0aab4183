import { activeAdapter, attach, countParameters, type PeftModel } from '@peftjs/core';
import { floats, hostZeros, tensorAt, type HostTensor } from '@peftjs/core/method';
import { embeddingSite } from '@peftjs/core/model';
import { initialOf, referenceBackend, relativeDistance, tensorsOf, toyModel } from '@peftjs/conformance';
import { lora, type LoraConfig } from '@peftjs/lora';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { drawn, foldedWeight, matrix, moved, numbers, onModule, outputOn } from './harness.js';

await referenceBackend(); // before the first tensor: it would print a banner

const attached = (config: Partial<LoraConfig>): PeftModel<LoraConfig> =>
  attach(toyModel(), lora({ r: 2, targetModules: ['query', 'value'], ...config }), { seed: 4 });

const withBias = (peft: PeftModel): string[] =>
  Object.values(activeAdapter(peft).layers).flatMap(({ site, params }) => (params.bias ? [site.path] : []));

const query = 'encoder.layer.0.attention.query';

describe('bias', () => {
  it("'none' trains no bias, 'lora_only' those of adapted modules, 'all' every bias outside fully trained modules", () => {
    expect(withBias(attached({}))).toEqual([]);
    const adapted = ['0', '1'].flatMap((layer) =>
      ['query', 'value'].map((name) => `encoder.layer.${layer}.attention.${name}`),
    );
    expect(withBias(attached({ bias: 'lora_only' })).sort()).toEqual(adapted);
    const all = toyModel().sites.filter(({ hasBias, path }) => hasBias && path !== 'classifier');
    expect(withBias(attached({ bias: 'all' })).sort()).toEqual(all.map(({ path }) => path).sort());
    const saved = attached({ bias: 'all', modulesToSave: ['norm', '1.ffn'] });
    expect(withBias(saved).sort()).toEqual(
      all
        .map(({ path }) => path)
        .filter((path) => !/norm|1\.ffn/.test(path))
        .sort(),
    );
  });

  it('starts from the biases of the model, without weight decay, and counts as stored', () => {
    const [none, all] = [attached({}), attached({ bias: 'all' })];
    for (const path of [query, 'encoder.layer.1.norm']) {
      const { initial, decay } = activeAdapter(all).layers[path]?.params.bias ?? expect.fail(path);
      expect(initial).toEqual(toyModel().weights[`${path}.bias`]);
      expect(decay).toBe(false);
    }
    const stored = (peft: PeftModel): number => countParameters(peft).stored;
    const biases = toyModel().sites.filter(({ hasBias, path }) => hasBias && path !== 'classifier');
    expect(stored(all) - stored(none)).toBe(biases.reduce((sum, { outFeatures }) => sum + outFeatures, 0));
  });

  it.each([{}, { useDora: true }, { initLoraWeights: 'pissa' as const }])(
    "is the module's own trained bias instead of the frozen one, with %o",
    (options) => {
      const on = onModule({ r: 2, bias: 'lora_only', ...options });
      const values = moved(on.layer);
      const x = matrix(drawn(4, [5, 6]));
      const { bias } = values;
      const expected = tf.add(tf.matMul(x, tf.tensor2d(foldedWeight(on, values), [6, 10])), bias?.data ?? []);
      expect(relativeDistance(numbers(outputOn(on, tensorsOf(values), x)), numbers(expected))).toBeLessThan(1e-5);
      expect(on.layer.mergedBias?.(values, on.frozen)).toEqual(bias);
      expect(on.layer.ignoresBase).toBe(true);
    },
  );
});

describe('loraBias', () => {
  const options = { r: 2, loraAlpha: 6, loraBias: true };

  it('is added to the output of B, scaled with it, and starts from zero', () => {
    const on = onModule(options);
    expect(tensorAt(initialOf(on.layer), 'loraBias')).toEqual(hostZeros([10]));
    const values = moved(on.layer);
    const x = matrix(drawn(4, [5, 6]));
    const own = floats(tensorAt(values, 'loraBias')).map((value) => 3 * value);
    const linear = tf.matMul(x, tf.tensor2d(foldedWeight(on, values), [6, 10]));
    const expected = tf.add(tf.add(linear, on.frozen.bias?.data ?? []), own);
    expect(relativeDistance(numbers(outputOn(on, tensorsOf(values), x)), numbers(expected))).toBeLessThan(1e-5);
  });

  it('is merged into the bias, also into a trained one and in a module without one', () => {
    const sum = (a: HostTensor, b: Float32Array): Float32Array =>
      floats(a).map((value, index) => value + (b[index] as number));
    for (const bias of ['none', 'lora_only'] as const) {
      const { layer, frozen } = onModule({ ...options, bias });
      const values = moved(layer);
      const own = floats(tensorAt(values, 'loraBias')).map((value) => 3 * value);
      const beside = values.bias ?? frozen.bias ?? expect.fail('no bias');
      expect(layer.mergedBias?.(values, frozen).data).toEqual(sum(beside, own));
      if (bias === 'none') expect(layer.mergedBias?.(values, { weight: frozen.weight }).data).toEqual(own);
    }
  });

  it('is rejected for embeddings', () => {
    expect(() => onModule(options, { site: embeddingSite('m', 7, 4) })).toThrow(
      expect.objectContaining({ code: 'PEFT_CONFIG', path: 'loraBias' }),
    );
  });
});
