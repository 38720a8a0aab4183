import { bitfit } from '@peftjs/baselines';
import { activeAdapter, attach, mergeAndUnload } from '@peftjs/core';
import { CheckpointError, createRng, TargetModuleError } from '@peftjs/core/method';
import { replaceAdapter } from '@peftjs/core/model';
import { normalValues } from '@peftjs/core/linalg';
import { toyModel } from '@peftjs/conformance';
import { describe, expect, it } from 'vitest';

const model = toyModel();
const peft = attach(model, bitfit());
const { config, layers } = activeAdapter(peft);

/** Returns biases that differ from the model's. */
const values = Object.fromEntries(
  Object.entries(activeAdapter(peft).values).map(([name, { shape }]) => [
    name,
    normalValues(createRng(1).fork(name), shape, 1),
  ]),
);

describe('what is trained', () => {
  it('is every bias of the layers, including their norms, but not those of embeddings and head', () => {
    expect(Object.keys(layers)).toEqual(
      [0, 1].flatMap((layer) =>
        ['attention.query', 'attention.value', 'attention.output', 'norm', 'ffn.in', 'ffn.out'].map(
          (name) => `encoder.layer.${layer}.${name}`,
        ),
      ),
    );
    for (const { params } of Object.values(layers)) expect(Object.keys(params)).toEqual(['bias']);
  });

  it("excludes the first feed-forward module's bias with the names of OpenDelta", () => {
    const paths = Object.keys(activeAdapter(attach(model, bitfit({ biases: 'opendelta' }))).layers);
    expect(Object.keys(layers).filter((path) => !paths.includes(path))).toEqual(
      [0, 1].map((n) => `encoder.layer.${n}.ffn.in`),
    );
  });

  it("is what targetModules names, such as the paper's smaller variant: queries and the first feed-forward module", () => {
    const named = activeAdapter(
      attach(model, bitfit({ targetModules: ['query', 'ffn.in'], biases: 'opendelta' })),
    ).layers;
    expect(Object.keys(named)).toHaveLength(4);
  });

  it('starts from the biases of the model, without weight decay', () => {
    for (const [path, { params }] of Object.entries(layers)) {
      expect(params.bias).toEqual({
        initial: model.weights[`${path}.bias`],
        trainable: true,
        group: 'default',
        decay: false,
      });
    }
  });

  it('must exist: modules without biases are rejected', () => {
    const sites = model.sites.map((site) => ({ ...site, hasBias: false }));
    expect(() => attach({ ...model, sites }, bitfit())).toThrow(TargetModuleError);
    expect(() => attach({ ...model, sites }, bitfit({ targetModules: ['query'] }))).toThrow(/with a bias/);
  });
});

it("merges by replacing the model's biases; weights do not change", () => {
  replaceAdapter(peft, { values });
  const merged = mergeAndUnload(peft).weights;
  for (const path of Object.keys(layers)) {
    expect(merged[`${path}.bias`]).toEqual(values[`${path}.bias`]);
    expect(merged[`${path}.weight`]).toEqual(model.weights[`${path}.weight`]);
  }
});

describe('files', () => {
  const file = bitfit.toFile({ config, layers, values }, { pruned: true });

  it('hold the biases under their names in the model, and read back', () => {
    expect(file.config).toEqual({ peft_type: 'BITFIT', target_modules: Object.keys(layers) });
    expect(Object.keys(file.tensors)).toEqual(Object.keys(layers).map((path) => `${path}.bias`));
    const read = bitfit.fromFile(file);
    expect(read.values).toEqual(file.tensors);
    expect(Object.keys(activeAdapter(attach(model, bitfit(read.config))).layers)).toEqual(Object.keys(layers));
  });

  it('without a bias are rejected', () => {
    expect(() => bitfit.fromFile({ ...file, tensors: {} })).toThrow(CheckpointError);
  });
});
