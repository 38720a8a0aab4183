import { activeAdapter, attach, countParameters, getPeftModelStateDict, hostTensor } from '@peftjs/core';
import { layersOf, toyModel } from '@peftjs/conformance';
import { layerNormSite, linearSite } from '@peftjs/core/model';
import { lnTuning } from '@peftjs/ln-tuning';
import { describe, expect, it } from 'vitest';

const norms = ['encoder.layer.0.norm', 'encoder.layer.1.norm'];

it('trains the scale and the shift of every normalization, and the scale of an RMS norm', () => {
  const peft = attach(toyModel(), lnTuning());
  expect(Object.keys(activeAdapter(peft).layers)).toEqual(norms);
  expect(countParameters(peft)).toMatchObject({ trainable: 2 * 16, stored: 2 * 16 });
  const { rms } = layersOf(lnTuning, [{ ...layerNormSite('rms', 6), hasBias: false }]);
  expect(Object.keys(rms?.params ?? {})).toEqual(['weight']);
});

it('trains those of chosen layers', () => {
  const { layers } = activeAdapter(attach(toyModel(), lnTuning({ layersToTransform: [1] })));
  expect(Object.keys(layers)).toEqual(norms.slice(1));
});

it('starts from the values of the model', () => {
  const model = toyModel();
  const { values } = activeAdapter(attach(model, lnTuning({ targetModules: ['layer.1.norm'] })));
  expect(values['encoder.layer.1.norm.weight']).toEqual(model.weights['encoder.layer.1.norm.weight']);
});

it("writes PEFT's copy of the module, under PEFT's names", () => {
  const dict = getPeftModelStateDict(attach(toyModel(), lnTuning()));
  expect(Object.keys(dict).filter((key) => key.includes('encoder'))).toEqual(
    norms.flatMap((path) => ['weight', 'bias'].map((name) => `base_model.model.${path}.ln_tuning_layers.${name}`)),
  );
});

describe('a file', () => {
  const config = { peft_type: 'LN_TUNING' };

  it('that fully trains a linear module is rejected by name', () => {
    const tensors = { 'query.ln_tuning_layers.weight': hostTensor(new Float32Array(4), [2, 2]) };
    expect(() => lnTuning.fromFile({ config, tensors, sites: [linearSite('query', 2, 2)] })).toThrow(
      expect.objectContaining({ code: 'PEFT_UNSUPPORTED', path: 'query' }),
    );
  });

  it('without a normalization is rejected', () => {
    expect(() => lnTuning.fromFile({ config, tensors: {} })).toThrow(/no tensor '<module>\.ln_tuning_layers\.weight'/);
  });
});
