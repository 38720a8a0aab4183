import { full } from '@peftjs/baselines';
import { activeAdapter, attach, countParameters } from '@peftjs/core';
import { CheckpointError, createRng, tensorAt } from '@peftjs/core/method';
import { normalValues, transposed } from '@peftjs/core/linalg';
import { toyModel } from '@peftjs/conformance';
import { describe, expect, it } from 'vitest';

const model = toyModel();
const adapter = activeAdapter(attach(model, full()));
const { config, layers } = adapter;

const values = Object.fromEntries(
  Object.entries(adapter.values).map(([name, { shape }]) => [name, normalValues(createRng(1).fork(name), shape, 1)]),
);

describe('what is trained', () => {
  it('is every module except the head, which is trained anyway', () => {
    expect(Object.keys(layers)).toEqual(model.sites.map(({ path }) => path).filter((path) => path !== 'classifier'));
    expect(Object.keys(adapter.saved)).toEqual(['classifier']);
    const count = countParameters(attach(model, full()));
    expect(count.trainable).toBe(count.base);
    expect(count.stored).toBe(count.base);
  });

  it("starts from the model's weights; norms and biases do not decay", () => {
    const { params } = tensorAt(layers, 'encoder.layer.0.ffn.in');
    expect(params.weight?.initial).toBe(model.weights['encoder.layer.0.ffn.in.weight']);
    expect(params.weight?.decay).toBe(true);
    expect(params.bias?.decay).toBe(false);
    expect(tensorAt(layers, 'encoder.layer.0.norm').params.weight?.decay).toBe(false);
  });
});

describe('files', () => {
  const file = full.toFile({ config, layers, values }, { pruned: true });

  it("hold every tensor under its name in the model, in torch's layout", () => {
    expect(file.config).toEqual({
      peft_type: 'FULL',
      target_modules: Object.keys(layers),
      embedding_modules: ['embeddings'],
    });
    expect(file.tensors['encoder.layer.0.ffn.in.weight']).toEqual(
      transposed(tensorAt(values, 'encoder.layer.0.ffn.in.weight')),
    );
    expect(file.tensors['embeddings.weight']).toBe(values['embeddings.weight']);
    expect(file.tensors['encoder.layer.0.norm.weight']).toBe(values['encoder.layer.0.norm.weight']);
    expect(file.tensors['embeddings.bias']).toBeUndefined();
  });

  it('read back to the same values', () => {
    const read = full.fromFile(file);
    const own = Object.entries(values).filter(([name]) => !name.startsWith('classifier.'));
    expect(read).toEqual({ config: { targetModules: Object.keys(layers) }, values: Object.fromEntries(own) });
  });

  it('without a weight are rejected', () => {
    expect(() => full.fromFile({ ...file, tensors: {} })).toThrow(CheckpointError);
  });
});
